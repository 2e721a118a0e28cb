"""What all steps share: a prompt from a template, asked through the journal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel

from saexplain.common.v1.experiment_pb2 import Hypothesis, HypothesisStatus
from saexplain.common.v1.usage_pb2 import LlmOptions, LlmUsage
from services.agent.explainers.llm.render import visible
from services.common.llm.calls import ChatMessage
from services.common.llm.prompts import PromptSet
from services.common.llm.session import LlmSession, Question

SHARED_PROMPTS = PromptSet(__package__)
"""Templates of the steps that explainers share."""

T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True)
class Asker:
    """Asks the questions of one step of one explainer.

    Attributes:
        session: the step's session.
        llm: which model to ask.
        prompts: the explainer's templates; their fingerprint stands on every call.
    """

    session: LlmSession
    llm: LlmOptions
    prompts: PromptSet

    async def ask(self, step: str, reply_type: type[T], **values: Any) -> T:
        """Renders the template of a step and asks; schema and template share a name.

        Raises:
            Aborted: LLM_REPLY_UNUSABLE.
            SaexplainError: as `LlmSession.ask`.
        """
        messages = (
            ChatMessage("system", self.prompts.render("system")),
            ChatMessage("user", self.prompts.render(step, **values)),
        )
        question = Question(step, reply_type, messages, self.prompts.fingerprint)
        return (await self.session.ask(question, self.llm)).value()

    def usage(self) -> LlmUsage:
        """What the step cost so far."""
        return self.session.usage()


def shown_hypothesis(hypothesis: Hypothesis) -> dict[str, str]:
    """A hypothesis as the templates show it, with its counts."""
    tally = hypothesis.tally
    positive = f"{tally.positive_passed_count}/{tally.positive_count}"
    negative = f"{tally.negative_passed_count}/{tally.negative_count}"
    return {
        "id": hypothesis.id,
        "statement": one_line(hypothesis.statement),
        "status": HypothesisStatus.Name(hypothesis.status).removeprefix("HYPOTHESIS_STATUS_"),
        "tally": f"({positive} fired; {negative} silent)",
    }


def one_line(text: str) -> str:
    """A sentence of a language model on one line, with nothing that could end it."""
    return visible(" ".join(text.split()))
