"""First step: hypotheses that would explain the evidence."""

from __future__ import annotations

from typing import Any

from saexplain.agent.v1.agent_pb2 import (
    Evidence,
    ProposeHypothesesRequest,
    ProposeHypothesesResponse,
)
from saexplain.common.v1.experiment_pb2 import (
    HYPOTHESIS_STATUS_OPEN,
    Hypothesis,
    HypothesisKind,
)
from services.agent.explainers.base import StepOptions
from services.agent.explainers.llm.asking import Asker
from services.agent.explainers.llm.replies import ProposedHypothesis, ProposeReply
from services.agent.explainers.llm.views import EvidenceView
from services.agent.explainers.llm.vocabulary import neighbor_lines, vocabulary_lines


async def propose(request: ProposeHypothesesRequest, asker: Asker) -> ProposeHypothesesResponse:
    """Asks once; no call where the feature fires in none of the windows."""
    evidence = request.evidence
    if not fires(evidence):
        return ProposeHypothesesResponse(
            usage=asker.usage(),
            no_hypothesis_reason="the feature fires in none of the windows",
        )
    view = EvidenceView.of(evidence)
    count = StepOptions.of(request.options).hypothesis_count
    reply = await asker.ask(
        "propose_hypotheses", ProposeReply, count=count, **evidence_values(evidence, view)
    )
    kept = _distinct(reply.hypotheses)[:count]
    reason = "" if kept else (reply.none_because.strip() or "the model proposed none")
    return ProposeHypothesesResponse(
        hypotheses=[_hypothesis(n, proposed, view) for n, proposed in enumerate(kept, 1)],
        usage=asker.usage(),
        no_hypothesis_reason=reason,
    )


def evidence_values(evidence: Evidence, view: EvidenceView) -> dict[str, Any]:
    """What the template `evidence` shows."""
    return {
        "view": view,
        "density_percent": f"{100 * evidence.facts.density:.3g}",
        "vocabulary": vocabulary_lines(evidence),
        "neighbors": neighbor_lines(evidence),
    }


def fires(evidence: Evidence) -> bool:
    """Whether there is anything to explain."""
    return evidence.facts.reference_max > 0 and any(
        value > 0
        for listed in evidence.windows
        for window in listed.windows
        for value in window.activations
    )


def folded(statement: str) -> str:
    """A statement without what two wordings of the same may differ in."""
    return " ".join(statement.casefold().split())


def _distinct(proposed: list[ProposedHypothesis]) -> list[ProposedHypothesis]:
    first: dict[str, ProposedHypothesis] = {}
    for hypothesis in proposed:
        first.setdefault(folded(hypothesis.statement), hypothesis)
    return list(first.values())


def _hypothesis(number: int, proposed: ProposedHypothesis, view: EvidenceView) -> Hypothesis:
    return Hypothesis(
        id=f"h{number}",
        statement=proposed.statement,
        kind=HypothesisKind.Value(f"HYPOTHESIS_KIND_{proposed.kind.upper()}"),
        claimed_windows=view.claims(proposed.windows),
        status=HYPOTHESIS_STATUS_OPEN,
        revision=1,
        rationale=proposed.why.strip(),
        rival=proposed.rival,
    )
