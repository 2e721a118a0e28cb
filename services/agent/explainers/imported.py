"""Explanations from elsewhere, so that they are scored as ours are."""

from __future__ import annotations

from saexplain.agent.v1.agent_pb2 import (
    VERDICT_SOURCE_CODE,
    LoopPolicy,
    SynthesizeRequest,
    SynthesizeResponse,
)
from saexplain.common.v1.explanation_pb2 import (
    EXPLANATION_STATUS_EXPLAINED,
    Explanation,
    ExplanationPart,
)
from services.agent.explainers.citations import (
    MAX_DESCRIPTION_LENGTH,
    MAX_LABEL_LENGTH,
    MAX_PARTS,
    shortened,
)
from services.agent.explainers.llm.explainer import WithoutHypotheses
from services.common.pattern import validate


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
        return SynthesizeResponse(explanation=accepted(request.options.given_explanation))


def accepted(given: Explanation) -> Explanation:
    """A given explanation as ours are: a missing label is the beginning of the
    description, a missing description is the label."""
    label, description = " ".join(given.label.split()), given.description.strip()
    explanation = Explanation(
        status=EXPLANATION_STATUS_EXPLAINED,
        status_detail="Imported.",
        label=shortened(label or " ".join(description.split()), MAX_LABEL_LENGTH),
        description=shortened(description or label, MAX_DESCRIPTION_LENGTH),
        parts=[ExplanationPart(statement=part.statement) for part in given.parts[:MAX_PARTS]],
    )
    if given.HasField("pattern"):
        validate(given.pattern, "options.given_explanation.pattern")
        explanation.pattern.CopyFrom(given.pattern)
    return explanation
