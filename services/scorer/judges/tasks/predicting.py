"""PREDICT: the tokens at which an activation is expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from saexplain.scorer.v1.scorer_pb2 import JudgeItem, Prediction
from services.common.llm.replies import ReplyModel
from services.common.llm.session import Answer
from services.scorer.judges.asking import Task, answered
from services.scorer.judges.rendering import by_number, joined, numbered

STRONGEST = 10
"""The largest strength that a judge can answer: the reference maximum."""


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


def _shown(item: JudgeItem) -> dict[str, str]:
    return {"context": joined(item.left_context), "tokens": numbered(item.tokens)}


def _read(batch: Sequence[JudgeItem], answer: Answer[PredictReply]) -> Mapping[str, Prediction]:
    found: dict[str, Prediction] = {}
    answers = ((a.item, a.tokens) for a in answer.value().items)
    for number, tokens in by_number(answers, len(batch)).items():
        item = batch[number - 1]
        shares = _shares(len(item.tokens.token_ids), tokens)
        if shares is not None:
            found[item.id] = answered(item, shares=shares)
    return found


def _shares(token_count: int, tokens: Sequence[TokenStrength]) -> list[float] | None:
    """Shares per token; None for an answer about tokens or strengths that do not exist."""
    shares = [0.0] * token_count
    for token in tokens:
        if not (0 <= token.index < token_count and 0 <= token.strength <= STRONGEST):
            return None
        shares[token.index] = token.strength / STRONGEST
    return shares


PREDICT = Task("predict_activations", PredictReply, "predict", 16, _shown, _read)
