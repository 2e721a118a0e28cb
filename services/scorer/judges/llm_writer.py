"""The language model as writer: it sees the explanation, and nothing else of the feature."""

from __future__ import annotations

from collections.abc import Iterable

from saexplain.common.v1.usage_pb2 import LlmUsage
from saexplain.scorer.v1.scorer_pb2 import PlanScoreRequest, WrittenText
from services.common.errors import Aborted
from services.common.llm.calls import ChatMessage
from services.common.llm.replies import ReplyModel
from services.common.llm.session import LanguageModel, Question
from services.scorer.judges.asking import PROMPTS
from services.scorer.judges.rendering import read_explanation
from services.scorer.texts import written

MAX_TEXT_CHARACTERS = 1000
"""Longer texts of a writer are no sentences; they are left out."""


class WriteReply(ReplyModel):
    """Reply to `write`."""

    positives: list[str]
    boundaries: list[str]


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
        prompt = PROMPTS.render(
            "write",
            explanation=read_explanation(request.explanation),
            positives=positives,
            boundaries=boundaries,
        )
        question = Question(
            "write_texts", WriteReply, (ChatMessage("user", prompt),), PROMPTS.fingerprint
        )
        options = request.options
        asked = options.writer if options.HasField("writer") else options.llm
        reply = (await session.ask(question, asked)).value()
        wanted = _usable(reply.positives)[:positives]
        if not wanted:
            raise Aborted("the reply holds no positive text", "LLM_REPLY_UNUSABLE")
        near = [t for t in _usable(reply.boundaries) if t not in wanted][:boundaries]
        return written("", wanted, near), session.usage()


def _usable(texts: Iterable[str]) -> list[str]:
    """Texts that can be measured, without repeats. Whitespace at the ends is kept."""
    return list(dict.fromkeys(filter(_measurable, texts)))


def _measurable(text: str) -> bool:
    # A JSON escape can spell half of a surrogate pair, which is no text.
    paired = not any("\ud800" <= character <= "\udfff" for character in text)
    return bool(text.strip()) and len(text) <= MAX_TEXT_CHARACTERS and paired
