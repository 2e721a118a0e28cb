"""The language model as judge and as writer.

Both see the explanation's description and what is to be judged or written, nothing else: no
activation, and for texts not what they were written for. A batch whose reply cannot be used
is FAILED item by item, and so is an item that a usable reply leaves out or answers with
tokens it does not have. Nothing of it ever becomes a zero.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel

from saexplain.common.v1.explanation_pb2 import Explanation
from saexplain.common.v1.text_pb2 import TokenSpan
from saexplain.common.v1.usage_pb2 import LlmUsage
from saexplain.scorer.v1.scorer_pb2 import (
    JUDGE_TASK_PREDICT,
    PREDICTION_STATUS_FAILED,
    PREDICTION_STATUS_OK,
    JudgeItem,
    JudgeRequest,
    PlanScoreRequest,
    Prediction,
    WrittenText,
)
from services.common.errors import Aborted
from services.common.llm.calls import ChatMessage
from services.common.llm.prompts import PromptSet
from services.common.llm.replies import ReplyModel
from services.common.llm.session import LanguageModel, LlmSession, Question
from services.common.pattern import visible
from services.scorer.texts import written

ITEMS_PER_QUESTION = 16
"""Items judged in one reply: few enough for the default limit of a reply's tokens."""

STRONGEST = 10
"""The largest strength that a judge can answer: the reference maximum."""

MAX_TEXT_CHARACTERS = 1000
"""Longer texts of a writer are no sentences; they are left out."""

_PROMPTS = PromptSet(__package__)

T = TypeVar("T", bound=BaseModel)


class TokenStrength(ReplyModel):
    """A token at which an activation is expected."""

    index: int
    strength: int


class PredictedItem(ReplyModel):
    """The prediction for one passage."""

    item: int
    tokens: list[TokenStrength]


class PredictReply(ReplyModel):
    """Reply to `predict`."""

    items: list[PredictedItem]


class VerifiedItem(ReplyModel):
    """The word on one text."""

    item: int
    covered: bool


class VerifyReply(ReplyModel):
    """Reply to `verify`."""

    items: list[VerifiedItem]


class WriteReply(ReplyModel):
    """Reply to `write`."""

    positives: list[str]
    boundaries: list[str]


class LlmJudge:
    """Predicts windows and verifies texts by asking a language model."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model

    async def judge(self, request: JudgeRequest) -> tuple[list[Prediction], LlmUsage]:
        """One prediction per item, in their order, asked in batches of 16 of one task.

        Raises:
            SaexplainError: the provider cannot be asked (see `LlmSession.ask`).
        """
        session = self._model.session(request.scope)
        answers: dict[str, Prediction] = {}
        asking = [self._ask(session, request, batch, answers) for batch in _batches(request.items)]
        # All are waited for, also when one fails: their replies are stored and not bought again.
        for outcome in await asyncio.gather(*asking, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
        predictions = [answers[item.id] for item in request.items]
        return predictions, session.usage()

    async def _ask(
        self,
        session: LlmSession,
        request: JudgeRequest,
        batch: Sequence[JudgeItem],
        answers: dict[str, Prediction],
    ) -> None:
        if batch[0].task == JUDGE_TASK_PREDICT:
            predict = _predict_question(request.explanation, batch)
            told = await session.ask(predict, request.options.llm)
            found = _predictions(batch, told.value()) if told.ok else {}
        else:
            verify = _verify_question(request.explanation, batch)
            said = await session.ask(verify, request.options.llm)
            found = _verdicts(batch, said.value()) if said.ok else {}
        for item in batch:
            failed = Prediction(item_id=item.id, status=PREDICTION_STATUS_FAILED)
            answers[item.id] = found.get(item.id, failed)


class LlmWriter:
    """Writes texts by asking a language model that sees only the explanation."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model

    async def write(
        self, request: PlanScoreRequest, positives: int, boundaries: int
    ) -> tuple[list[WrittenText], LlmUsage]:
        """The texts of one reply: what is beyond the number asked for, empty, repeated or
        no sentence is left out, and nothing is asked again for what is missing.

        Raises:
            Aborted: the reply is unusable or holds no positive text.
            SaexplainError: the provider cannot be asked (see `LlmSession.ask`).
        """
        session = self._model.session(request.scope)
        question = _question(
            "write_texts",
            WriteReply,
            "write",
            explanation=_read(request.explanation),
            positives=positives,
            boundaries=boundaries,
        )
        reply = (await session.ask(question, request.options.llm)).value()
        wanted = _usable(reply.positives)[:positives]
        if not wanted:
            raise Aborted("the reply holds no positive text", "LLM_REPLY_UNUSABLE")
        near = [t for t in _usable(reply.boundaries) if t not in wanted][:boundaries]
        return written("", wanted, near), session.usage()


def _batches(items: Iterable[JudgeItem]) -> list[list[JudgeItem]]:
    """Items of one task in groups of 16, in their order."""
    by_task: dict[int, list[JudgeItem]] = {}
    for item in items:
        by_task.setdefault(item.task, []).append(item)
    return [
        group[i : i + ITEMS_PER_QUESTION]
        for group in by_task.values()
        for i in range(0, len(group), ITEMS_PER_QUESTION)
    ]


def _question(name: str, reply_type: type[T], template: str, **values: Any) -> Question[T]:
    prompt = _PROMPTS.render(template, **values)
    return Question(name, reply_type, (ChatMessage("user", prompt),), _PROMPTS.fingerprint)


def _predict_question(
    explanation: Explanation, batch: Sequence[JudgeItem]
) -> Question[PredictReply]:
    items = [
        {
            "number": number,
            "context": _joined(item.left_context),
            "tokens": " ".join(f"{i}:{visible(t)}" for i, t in enumerate(item.tokens.token_bytes)),
        }
        for number, item in enumerate(batch, 1)
    ]
    return _question(
        "predict_activations",
        PredictReply,
        "predict",
        explanation=_read(explanation),
        items=items,
    )


def _verify_question(explanation: Explanation, batch: Sequence[JudgeItem]) -> Question[VerifyReply]:
    items = [{"number": number, "text": item.text} for number, item in enumerate(batch, 1)]
    return _question(
        "verify_texts", VerifyReply, "verify", explanation=_read(explanation), items=items
    )


def _read(explanation: Explanation) -> str:
    """What judges and writers read: the description, the label only where there is none."""
    return explanation.description or explanation.label


def _joined(tokens: TokenSpan) -> str:
    return "".join(visible(token) for token in tokens.token_bytes)


def _predictions(batch: Sequence[JudgeItem], reply: PredictReply) -> Mapping[str, Prediction]:
    found: dict[str, Prediction] = {}
    for number, answer in _once(reply.items).items():
        if not 1 <= number <= len(batch):
            continue
        item = batch[number - 1]
        shares = _shares(len(item.tokens.token_ids), answer)
        if shares is not None:
            found[item.id] = Prediction(item_id=item.id, status=PREDICTION_STATUS_OK, shares=shares)
    return found


def _shares(token_count: int, answer: PredictedItem) -> list[float] | None:
    """Shares per token; None for an answer about tokens or strengths that do not exist."""
    shares = [0.0] * token_count
    for token in answer.tokens:
        if not (0 <= token.index < token_count and 0 <= token.strength <= STRONGEST):
            return None
        shares[token.index] = token.strength / STRONGEST
    return shares


def _verdicts(batch: Sequence[JudgeItem], reply: VerifyReply) -> Mapping[str, Prediction]:
    return {
        batch[number - 1].id: Prediction(
            item_id=batch[number - 1].id, status=PREDICTION_STATUS_OK, covered=answer.covered
        )
        for number, answer in _once(reply.items).items()
        if 1 <= number <= len(batch)
    }


A = TypeVar("A", PredictedItem, VerifiedItem)


def _once(answers: Iterable[A]) -> dict[int, A]:
    """Answers by item; an item that is answered twice and differently has no answer."""
    found: dict[int, A] = {}
    contradicted: set[int] = set()
    for answer in answers:
        if found.setdefault(answer.item, answer) != answer:
            contradicted.add(answer.item)
    return {number: a for number, a in found.items() if number not in contradicted}


def _usable(texts: Iterable[str]) -> list[str]:
    """Texts that can be measured, without repeats. Whitespace at the ends is kept."""
    return list(dict.fromkeys(filter(_measurable, texts)))


def _measurable(text: str) -> bool:
    # A JSON escape can spell half of a surrogate pair, which is no text.
    paired = not any("\ud800" <= character <= "\udfff" for character in text)
    return bool(text.strip()) and len(text) <= MAX_TEXT_CHARACTERS and paired
