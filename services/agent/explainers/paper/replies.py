"""What the language model is asked to reply in the published setting."""

from __future__ import annotations

from typing import Literal

from services.common.llm.replies import ReplyModel


class TestReply(ReplyModel):
    """A text with the outcome that the hypothesis predicts."""

    text: str
    fires: bool
    why: str


class UpdateReply(ReplyModel):
    """What an experiment says of a hypothesis."""

    analysis: str
    verdict: Literal["confirmed", "refuted", "refined", "open"]
    statement: str


class ReviewReply(ReplyModel):
    """Hypotheses that need further experiments."""

    further: list[str]
    why: str
