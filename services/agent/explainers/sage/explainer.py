"""The LLM explainer behind the interface of all explainers."""

from __future__ import annotations

from saexplain.agent.v1.agent_pb2 import (
    DesignProbesRequest,
    DesignProbesResponse,
    ProposeHypothesesRequest,
    ProposeHypothesesResponse,
    ReviseHypothesesRequest,
    ReviseHypothesesResponse,
    SynthesizeRequest,
    SynthesizeResponse,
)
from saexplain.common.v1.usage_pb2 import JournalScope
from services.agent.explainers.sage.asking import PROMPTS
from services.agent.explainers.sage.design import design
from services.agent.explainers.sage.propose import propose
from services.agent.explainers.sage.revise import revise
from services.agent.explainers.sage.synthesize import synthesize
from services.common.llm.session import LanguageModel, LlmSession, require_language_model


class SageExplainer:
    """Hypotheses, probes, revision and synthesis by a language model; outcomes, verdicts
    and checks by code.

    Args:
        model: None where the service has none: the explainer is listed, not available.
    """

    name = "sage"
    version = "1"
    description = (
        "A language model proposes hypotheses and writes probes that could refute them; "
        "code measures, decides and checks."
    )
    uses_llm = True
    prompt_fingerprint = PROMPTS.fingerprint

    def __init__(self, model: LanguageModel | None) -> None:
        self._model = model

    @property
    def available(self) -> bool:
        """Whether there is a language model to ask."""
        return self._model is not None

    async def propose(self, request: ProposeHypothesesRequest) -> ProposeHypothesesResponse:
        """One call, none where the feature does not fire."""
        return await propose(request, self._session(request.scope))

    async def design(self, request: DesignProbesRequest) -> DesignProbesResponse:
        """One call for all open hypotheses."""
        return await design(request, self._session(request.scope))

    async def revise(self, request: ReviseHypothesesRequest) -> ReviseHypothesesResponse:
        """One call with the failures only, none where nothing failed."""
        return await revise(request, self._session(request.scope))

    async def synthesize(self, request: SynthesizeRequest) -> SynthesizeResponse:
        """One call, none where nothing is left to explain with."""
        return await synthesize(request, self._session(request.scope))

    def _session(self, scope: JournalScope) -> LlmSession:
        return require_language_model(self._model).session(scope)
