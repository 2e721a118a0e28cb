"""The deterministic judge: an explanation's pattern, evaluated. Free, and the same for ever.

Whether a window or its highlighted tokens fire, and how a window is rated, follows from the
largest share among them (`firing`). Of a group it selects what it says yes to, and picks the
passage with the smallest share at its highlighted tokens (at any where none are), all of
equals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from saexplain.common.v1.usage_pb2 import LlmUsage
from saexplain.scorer.v1.scorer_pb2 import (
    JUDGE_TASK_CLASSIFY,
    JUDGE_TASK_CLASSIFY_HIGHLIGHTS,
    JUDGE_TASK_PICK,
    JUDGE_TASK_PREDICT,
    JUDGE_TASK_RATE,
    JUDGE_TASK_SELECT,
    JUDGE_TASK_SIMULATE,
    PREDICTION_STATUS_OK,
    SHARE_SOURCE_PATTERN,
    JudgeItem,
    JudgePassage,
    JudgeRequest,
    JudgeTask,
    Prediction,
)
from services.common.errors import InvalidArgument
from services.common.pattern import CompiledPattern, compile_pattern
from services.scorer.firing import FIRES_SHARE, firing_likelihood, rating_of
from services.scorer.statistics.estimate import Floats


class PatternJudge:
    """Answers items by `Explanation.pattern`.

    It verifies no texts: a pattern reads tokens, and how a text is cut into
    tokens is known only after it was encoded. Methods that write texts verify them from
    the encoded tokens when they score.
    """

    async def judge(self, request: JudgeRequest) -> tuple[list[Prediction], LlmUsage]:
        """One prediction per item; none ever fails.

        Raises:
            InvalidArgument: an item of a task that a pattern cannot do, or an invalid
                pattern.
        """
        pattern = compile_pattern(request.explanation.pattern)
        predictions = []
        for index, item in enumerate(request.items):
            answer = _ANSWERS.get(item.task)
            if answer is None:
                name = JudgeTask.Name(item.task).removeprefix("JUDGE_TASK_")
                raise InvalidArgument(
                    f"the judge `pattern` takes no {name} items", f"items[{index}].task"
                )
            predictions.append(
                Prediction(item_id=item.id, status=PREDICTION_STATUS_OK, **answer(pattern, item))
            )
        return predictions, LlmUsage()


def _shares(pattern: CompiledPattern, at: JudgeItem | JudgePassage) -> Floats:
    position = at.context_position if at.HasField("context_position") else None
    return pattern.predict(at.tokens, at.left_context, position).astype(np.float64)


def _predict(pattern: CompiledPattern, item: JudgeItem) -> dict[str, Any]:
    return {"shares": _shares(pattern, item).tolist()}


def _simulate(pattern: CompiledPattern, item: JudgeItem) -> dict[str, Any]:
    return {**_predict(pattern, item), "share_source": SHARE_SOURCE_PATTERN}


def _classify(pattern: CompiledPattern, item: JudgeItem) -> dict[str, Any]:
    return {"probability": firing_likelihood(float(_shares(pattern, item).max()))}


def _rate(pattern: CompiledPattern, item: JudgeItem) -> dict[str, Any]:
    return {"rating": rating_of(float(_shares(pattern, item).max()))}


def _highlights(pattern: CompiledPattern, item: JudgeItem) -> dict[str, Any]:
    return {"probability": firing_likelihood(_highlighted_max(pattern, item))}


def _highlighted_max(pattern: CompiledPattern, at: JudgeItem | JudgePassage) -> float:
    shares = _shares(pattern, at)
    return float(shares[list(at.highlights)].max() if at.highlights else shares.max())


def _largest(pattern: CompiledPattern, item: JudgeItem) -> Floats:
    return np.array([_highlighted_max(pattern, p) for p in item.passages])


def _pick(pattern: CompiledPattern, item: JudgeItem) -> dict[str, Any]:
    largest = _largest(pattern, item)
    return {"chosen": np.flatnonzero(largest == largest.min()).tolist()}


def _select(pattern: CompiledPattern, item: JudgeItem) -> dict[str, Any]:
    return {"chosen": np.flatnonzero(_largest(pattern, item) >= FIRES_SHARE).tolist()}


_ANSWERS: Mapping[JudgeTask.ValueType, Callable[[CompiledPattern, JudgeItem], dict[str, Any]]] = {
    JUDGE_TASK_PREDICT: _predict,
    JUDGE_TASK_SIMULATE: _simulate,
    JUDGE_TASK_CLASSIFY: _classify,
    JUDGE_TASK_CLASSIFY_HIGHLIGHTS: _highlights,
    JUDGE_TASK_PICK: _pick,
    JUDGE_TASK_RATE: _rate,
    JUDGE_TASK_SELECT: _select,
}
