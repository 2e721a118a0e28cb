"""The LLM explainer behind the interface of all explainers."""

from __future__ import annotations

from saexplain.agent.v1.agent_pb2 import (
    VERDICT_SOURCE_CODE,
    DesignProbesRequest,
    DesignProbesResponse,
    LoopPolicy,
    ProposeHypothesesRequest,
    ProposeHypothesesResponse,
    ReviseHypothesesRequest,
    ReviseHypothesesResponse,
    SynthesizeRequest,
    SynthesizeResponse,
)
from services.agent.explainers.llm.asking import SHARED_PROMPTS
from services.agent.explainers.llm.explainer import AsksLanguageModel
from services.agent.explainers.llm.propose import propose
from services.agent.explainers.llm.synthesize import synthesize
from services.agent.explainers.sage.design import design
from services.agent.explainers.sage.revise import revise
from services.common.llm.prompts import PromptSet


class SageExplainer(AsksLanguageModel):
    """Hypotheses, probes, revision and synthesis by a language model; outcomes, verdicts
    and checks by code (method, section 4)."""

    name = "sage"
    version = "2"
    description = (
        "A language model proposes hypotheses and writes probes that could refute them; "
        "code measures, decides and checks."
    )
    prompts = PromptSet(__package__, base=SHARED_PROMPTS)
    loop = LoopPolicy(
        hypothesis_count=4,
        round_count=4,
        positive_probe_count=6,
        negative_probe_count=6,
        verdict_source=VERDICT_SOURCE_CODE,
        candidate_count=2,
    )

    async def propose(self, request: ProposeHypothesesRequest) -> ProposeHypothesesResponse:
        """One call, none where the feature does not fire."""
        return await propose(request, self._asker(request.scope, request.options))

    async def design(self, request: DesignProbesRequest) -> DesignProbesResponse:
        """One call for all open hypotheses."""
        return await design(request, self._asker(request.scope, request.options))

    async def revise(self, request: ReviseHypothesesRequest) -> ReviseHypothesesResponse:
        """One call with the failures only, none where nothing failed."""
        return await revise(request, self._asker(request.scope, request.options))

    async def synthesize(self, request: SynthesizeRequest) -> SynthesizeResponse:
        """One call, none where nothing is left to explain with."""
        return await synthesize(request, self._asker(request.scope, request.options))
