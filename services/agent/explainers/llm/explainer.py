"""What explainers that ask a language model have in common, and those that write no probes."""

from __future__ import annotations

from typing import ClassVar

from saexplain.agent.v1.agent_pb2 import (
    DesignProbesRequest,
    DesignProbesResponse,
    ExplainerOptions,
    ProposeHypothesesRequest,
    ProposeHypothesesResponse,
    ReviseHypothesesRequest,
    ReviseHypothesesResponse,
)
from saexplain.common.v1.usage_pb2 import JournalScope
from services.agent.explainers.llm.asking import SHARED_PROMPTS, Asker
from services.common.llm.prompts import PromptSet
from services.common.llm.session import LanguageModel, require_language_model


class AsksLanguageModel:
    """A language model behind an explainer.

    Args:
        model: None where the service has none: the explainer is listed, not available.
    """

    uses_llm = True
    prompts: ClassVar[PromptSet] = SHARED_PROMPTS

    def __init__(self, model: LanguageModel | None) -> None:
        self._model = model

    @property
    def prompt_fingerprint(self) -> str:
        """Of all templates that its steps may use."""
        return self.prompts.fingerprint

    @property
    def available(self) -> bool:
        """Whether there is a language model to ask."""
        return self._model is not None

    def _asker(self, scope: JournalScope, options: ExplainerOptions) -> Asker:
        session = require_language_model(self._model).session(scope)
        return Asker(session, options.llm, self.prompts)


class WithoutHypotheses:
    """The steps of an explainer whose `LoopPolicy` says that it makes no hypotheses: they
    change nothing and ask nobody."""

    async def propose(self, request: ProposeHypothesesRequest) -> ProposeHypothesesResponse:
        """None, by design."""
        return ProposeHypothesesResponse(no_hypothesis_reason="this explainer makes none")

    async def design(self, request: DesignProbesRequest) -> DesignProbesResponse:
        """None."""
        return DesignProbesResponse()

    async def revise(self, request: ReviseHypothesesRequest) -> ReviseHypothesesResponse:
        """Those that came."""
        return ReviseHypothesesResponse(hypotheses=request.state.hypotheses)
