"""Explanations from elsewhere, so that they are scored as ours are."""

from __future__ import annotations

from saexplain.agent.v1.agent_pb2 import (
    VERDICT_SOURCE_CODE,
    LoopPolicy,
    SynthesizeRequest,
    SynthesizeResponse,
)
from services.agent.explainers.llm.explainer import WithoutHypotheses
from services.common.given_explanation import accepted


class ImportExplainer(WithoutHypotheses):
    """Passes on `ExplainerOptions.given_explanation`: its texts within our limits, its
    pattern, and no citation, since those were never checked."""

    name = "import"
    version = "1"
    description = "An explanation from elsewhere, passed on as it is."
    uses_llm = False
    prompt_fingerprint = ""
    available = True
    loop = LoopPolicy(verdict_source=VERDICT_SOURCE_CODE, candidate_count=1)

    async def synthesize(self, request: SynthesizeRequest) -> SynthesizeResponse:
        """The given explanation.

        Raises:
            InvalidArgument: its pattern is invalid.
        """
        given = request.options.given_explanation
        return SynthesizeResponse(explanation=accepted(given, "options.given_explanation"))
