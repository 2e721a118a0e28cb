"""As many probes as the loop, all written before any is measured, and one revision: the
control for "adaptivity helps"."""

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
from services.agent.explainers.llm.explainer import AsksLanguageModel
from services.agent.explainers.llm.propose import propose
from services.agent.explainers.llm.synthesize import synthesize
from services.agent.explainers.sage.design import design
from services.agent.explainers.sage.explainer import SageExplainer
from services.agent.explainers.sage.revise import revise


class RandomProbeExplainer(AsksLanguageModel):
    """The steps of `sage` in one round of its four rounds' probes."""

    name = "random_probe"
    version = "1"
    description = "As many probes as sage, all written up front, one revision after measuring them."
    prompts = SageExplainer.prompts
    loop = LoopPolicy(
        hypothesis_count=4,
        round_count=1,
        positive_probe_count=24,
        negative_probe_count=24,
        verdict_source=VERDICT_SOURCE_CODE,
        revises_last_round=True,
        candidate_count=1,
    )

    async def propose(self, request: ProposeHypothesesRequest) -> ProposeHypothesesResponse:
        """As `sage`."""
        return await propose(request, self._asker(request.scope, request.options))

    async def design(self, request: DesignProbesRequest) -> DesignProbesResponse:
        """As `sage`, asked hypothesis by hypothesis: 48 probes fill a reply."""
        asker = self._asker(request.scope, request.options)
        return await design(request, asker, hypotheses_per_question=1)

    async def revise(self, request: ReviseHypothesesRequest) -> ReviseHypothesesResponse:
        """As `sage`."""
        return await revise(request, self._asker(request.scope, request.options))

    async def synthesize(self, request: SynthesizeRequest) -> SynthesizeResponse:
        """As `sage`."""
        return await synthesize(request, self._asker(request.scope, request.options))
