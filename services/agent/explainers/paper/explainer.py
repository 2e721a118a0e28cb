"""The published setting behind the interface of all explainers."""

from __future__ import annotations

from saexplain.agent.v1.agent_pb2 import (
    VERDICT_SOURCE_EXPLAINER,
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
from services.agent.explainers.paper.steps import design, revise
from services.common.llm.prompts import PromptSet


class PaperExplainer(AsksLanguageModel):
    """SAGE as published, on our evidence, measurements and synthesis (method, section 2)."""

    name = "paper"
    version = "1"
    description = (
        "The published setting: four hypotheses, one probe per hypothesis and round, "
        "verdicts by the language model, at most 14 rounds."
    )
    prompts = PromptSet(__package__, base=SHARED_PROMPTS)
    loop = LoopPolicy(
        hypothesis_count=4,
        round_count=14,
        positive_probe_count=1,
        verdict_source=VERDICT_SOURCE_EXPLAINER,
        revises_last_round=True,
        candidate_count=1,
        llm_token_count=1_500_000,
    )

    async def propose(self, request: ProposeHypothesesRequest) -> ProposeHypothesesResponse:
        """One call, none where the feature does not fire."""
        return await propose(request, self._asker(request.scope, request.options))

    async def design(self, request: DesignProbesRequest) -> DesignProbesResponse:
        """One call and one probe per open hypothesis."""
        return await design(request, self._asker(request.scope, request.options))

    async def revise(self, request: ReviseHypothesesRequest) -> ReviseHypothesesResponse:
        """One call per hypothesis of the round, and reviews."""
        return await revise(request, self._asker(request.scope, request.options))

    async def synthesize(self, request: SynthesizeRequest) -> SynthesizeResponse:
        """One call, none where nothing is left to explain with."""
        return await synthesize(request, self._asker(request.scope, request.options))
