"""An explanation in one call: the control for "experiments help"."""

from __future__ import annotations

from saexplain.agent.v1.agent_pb2 import (
    VERDICT_SOURCE_CODE,
    LoopPolicy,
    SynthesizeRequest,
    SynthesizeResponse,
)
from services.agent.explainers.llm.explainer import AsksLanguageModel, WithoutHypotheses
from services.agent.explainers.llm.synthesize import synthesize


class OneShotExplainer(AsksLanguageModel, WithoutHypotheses):
    """The evidence of a proposal and the question of a synthesis, in one prompt."""

    name = "one_shot"
    version = "1"
    description = "A language model writes the explanation from the evidence, in one call."
    loop = LoopPolicy(verdict_source=VERDICT_SOURCE_CODE, candidate_count=1)

    async def synthesize(self, request: SynthesizeRequest) -> SynthesizeResponse:
        """One call, none where the feature does not fire."""
        asker = self._asker(request.scope, request.options)
        return await synthesize(request, asker, from_evidence=True)
