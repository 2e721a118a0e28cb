"""What all steps share: a prompt from a template, asked through the journal."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel

from saexplain.agent.v1.agent_pb2 import ExplainerOptions
from saexplain.common.v1.experiment_pb2 import Hypothesis, HypothesisStatus
from services.common.llm.calls import ChatMessage
from services.common.llm.prompts import PromptSet
from services.common.llm.session import LlmSession, Question

PROMPTS = PromptSet("services.agent.explainers.sage")
"""The templates of all steps. Their fingerprint stands on every call."""

T = TypeVar("T", bound=BaseModel)


async def ask(
    session: LlmSession, options: ExplainerOptions, step: str, reply_type: type[T], **values: Any
) -> T:
    """Renders the template of a step and asks; schema and template share a name.

    Raises:
        Aborted: LLM_REPLY_UNUSABLE.
        SaexplainError: as `LlmSession.ask`.
    """
    messages = (
        ChatMessage("system", PROMPTS.render("system")),
        ChatMessage("user", PROMPTS.render(step, **values)),
    )
    question = Question(step, reply_type, messages, PROMPTS.fingerprint)
    return (await session.ask(question, options.llm)).value()


def shown_hypothesis(hypothesis: Hypothesis) -> dict[str, str]:
    """A hypothesis as the templates show it, with its counts."""
    tally = hypothesis.tally
    positive = f"{tally.positive_passed_count}/{tally.positive_count}"
    negative = f"{tally.negative_passed_count}/{tally.negative_count}"
    return {
        "id": hypothesis.id,
        "statement": " ".join(hypothesis.statement.split()),
        "status": HypothesisStatus.Name(hypothesis.status).removeprefix("HYPOTHESIS_STATUS_"),
        "tally": f"({positive} fired; {negative} silent)",
    }
