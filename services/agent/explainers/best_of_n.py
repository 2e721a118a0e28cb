"""Several explanations in one call each, chosen as rounds are: the control for "the loop
helps", at the loop's price."""

from __future__ import annotations

from saexplain.agent.v1.agent_pb2 import (
    VERDICT_SOURCE_CODE,
    ExplainerOptions,
    LoopPolicy,
    SynthesizeRequest,
    SynthesizeResponse,
)
from services.agent.explainers.llm.explainer import AsksLanguageModel, WithoutHypotheses
from services.agent.explainers.llm.synthesize import synthesize

LOOP_TOKENS = 30_000
"""What the loop of `sage` may take at its defaults; `benchmarks/llm_cost.py` measures it."""


class BestOfNExplainer(AsksLanguageModel, WithoutHypotheses):
    """One-shot explanations that differ by what the model samples alone. Where a plan fixes
    a seed, candidate k is asked with that seed plus k; a temperature of 0 makes all of them
    one."""

    name = "best_of_n"
    version = "1"
    description = (
        "A language model writes explanations in one call each until the loop's tokens are "
        "spent; the best on SELECT is chosen."
    )
    loop = LoopPolicy(
        verdict_source=VERDICT_SOURCE_CODE, candidate_count=12, candidate_token_count=LOOP_TOKENS
    )

    async def synthesize(self, request: SynthesizeRequest) -> SynthesizeResponse:
        """One call, none where the feature does not fire."""
        options = ExplainerOptions()
        options.CopyFrom(request.options)
        if options.llm.HasField("seed"):
            options.llm.seed += request.scope.ordinal
        asker = self._asker(request.scope, options)
        return await synthesize(request, asker, from_evidence=True)
