"""The language model as judge.

It sees the explanation's description and what is to be judged, nothing else: no
activation, and for texts not what they were written for. A batch whose reply cannot be
used is FAILED item by item, and so is an item that a usable reply leaves out or answers
with what does not exist. Nothing of it ever becomes a zero.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from saexplain.common.v1.usage_pb2 import LlmUsage
from saexplain.scorer.v1.scorer_pb2 import (
    JUDGE_TASK_CLASSIFY,
    JUDGE_TASK_CLASSIFY_HIGHLIGHTS,
    JUDGE_TASK_PICK,
    JUDGE_TASK_PICK_BLIND,
    JUDGE_TASK_PREDICT,
    JUDGE_TASK_RATE,
    JUDGE_TASK_SELECT,
    JUDGE_TASK_SIMULATE,
    JUDGE_TASK_VERIFY,
    JudgeItem,
    JudgeRequest,
    JudgeTask,
    Prediction,
)
from services.common.llm.session import LanguageModel, LlmSession
from services.scorer.judges.asking import Task
from services.scorer.judges.tasks.choosing import PICK, PICK_BLIND, SELECT
from services.scorer.judges.tasks.classifying import CLASSIFY, HIGHLIGHTS, RATE, VERIFY
from services.scorer.judges.tasks.predicting import PREDICT
from services.scorer.judges.tasks.simulating import SIMULATE

TASKS: Mapping[JudgeTask.ValueType, Task[Any]] = {
    JUDGE_TASK_PREDICT: PREDICT,
    JUDGE_TASK_VERIFY: VERIFY,
    JUDGE_TASK_CLASSIFY: CLASSIFY,
    JUDGE_TASK_CLASSIFY_HIGHLIGHTS: HIGHLIGHTS,
    JUDGE_TASK_SIMULATE: SIMULATE,
    JUDGE_TASK_PICK: PICK,
    JUDGE_TASK_PICK_BLIND: PICK_BLIND,
    JUDGE_TASK_SELECT: SELECT,
    JUDGE_TASK_RATE: RATE,
}
"""What a chat model is asked. EMBED is the embedding model's, see `embedding`."""


class LlmJudge:
    """Answers items by asking a language model."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model

    async def judge(self, request: JudgeRequest) -> tuple[list[Prediction], LlmUsage]:
        """One prediction per item, in their order, asked in batches of one task.

        Raises:
            SaexplainError: the provider cannot be asked (see `LlmSession.ask`).
        """
        session = self._model.session(request.scope)
        answers: dict[str, Prediction] = {}
        asking = [_ask(session, request, batch, answers) for batch in _batches(request.items)]
        # All are waited for, also when one fails: their replies are stored and not bought again.
        for outcome in await asyncio.gather(*asking, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
        return [answers[item.id] for item in request.items], session.usage()


async def _ask(
    session: LlmSession,
    request: JudgeRequest,
    batch: Sequence[JudgeItem],
    answers: dict[str, Prediction],
) -> None:
    task = TASKS[batch[0].task]
    question = task.question(request.explanation, batch)
    answer = await session.ask(question, request.options.llm)
    answers |= task.predictions(batch, answer)


def _batches(items: Iterable[JudgeItem]) -> list[list[JudgeItem]]:
    """Items of one task in groups of what one question holds, in their order."""
    by_task: dict[JudgeTask.ValueType, list[JudgeItem]] = {}
    for item in items:
        by_task.setdefault(item.task, []).append(item)
    return [
        group[begin : begin + TASKS[task].items_per_question]
        for task, group in by_task.items()
        for begin in range(0, len(group), TASKS[task].items_per_question)
    ]
