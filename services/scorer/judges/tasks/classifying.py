"""CLASSIFY, CLASSIFY_HIGHLIGHTS, VERIFY and RATE: one word on each item.

The published judges answer 0 or 1 and take a probability from the log-probabilities of
that digit where they get any. Ours states a percentage, which every endpoint can.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from saexplain.scorer.v1.scorer_pb2 import JudgeItem, Prediction
from services.common.llm.replies import ReplyModel
from services.common.llm.session import Answer
from services.scorer.judges.asking import Task, answered
from services.scorer.judges.rendering import by_number, passage, quoted

RATINGS = range(3)
"""0 not expressed, 1 partly, 2 clearly (FADE)."""


class Likelihood(ReplyModel):
    """How likely one passage is a case of the explanation, in percent."""

    item: int
    percent: int


class LikelihoodReply(ReplyModel):
    """Reply to `classify` and `highlights`."""

    items: list[Likelihood]


class Verdict(ReplyModel):
    """The word on one text."""

    item: int
    covered: bool


class VerifyReply(ReplyModel):
    """Reply to `verify`."""

    items: list[Verdict]


class Rating(ReplyModel):
    """The rating of one text."""

    item: int
    rating: int


class RateReply(ReplyModel):
    """Reply to `rate`."""

    items: list[Rating]


def _likelihoods(
    batch: Sequence[JudgeItem], answer: Answer[LikelihoodReply]
) -> Mapping[str, Prediction]:
    answers = by_number(((a.item, a.percent) for a in answer.value().items), len(batch))
    return {
        batch[n - 1].id: answered(batch[n - 1], probability=percent / 100)
        for n, percent in answers.items()
        if 0 <= percent <= 100
    }


def _verdicts(batch: Sequence[JudgeItem], answer: Answer[VerifyReply]) -> Mapping[str, Prediction]:
    answers = by_number(((a.item, a.covered) for a in answer.value().items), len(batch))
    return {batch[n - 1].id: answered(batch[n - 1], covered=c) for n, c in answers.items()}


def _ratings(batch: Sequence[JudgeItem], answer: Answer[RateReply]) -> Mapping[str, Prediction]:
    answers = by_number(((a.item, a.rating) for a in answer.value().items), len(batch))
    return {
        batch[n - 1].id: answered(batch[n - 1], rating=rating)
        for n, rating in answers.items()
        if rating in RATINGS
    }


def _window(item: JudgeItem) -> dict[str, str]:
    return {"text": passage(item.tokens, item.highlights)}


def _text(item: JudgeItem) -> dict[str, str]:
    return {"text": quoted(item.text)}


CLASSIFY = Task("classify_passages", LikelihoodReply, "classify", 16, _window, _likelihoods)
HIGHLIGHTS = Task("classify_highlights", LikelihoodReply, "highlights", 16, _window, _likelihoods)
VERIFY = Task("verify_texts", VerifyReply, "verify", 16, _text, _verdicts)
RATE = Task("rate_texts", RateReply, "rate", 16, _window, _ratings)
