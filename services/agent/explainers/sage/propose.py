"""First step: hypotheses that would explain the evidence."""

from __future__ import annotations

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
from services.agent.explainers.sage.asking import ask
from services.agent.explainers.sage.render import EvidenceView, visible
from services.agent.explainers.sage.replies import ProposedHypothesis, ProposeReply
from services.common.llm.session import LlmSession

_MOST_NEIGHBOR_LINES = 12
_NEIGHBORS_PER_TOKEN = 6


async def propose(
    request: ProposeHypothesesRequest, session: LlmSession
) -> ProposeHypothesesResponse:
    """Asks once; no call where the feature fires in none of the windows.

    Promoted output tokens are withheld: what a feature does to the output misleads about
    what it responds to.
    """
    evidence = request.evidence
    if not fires(evidence):
        return ProposeHypothesesResponse(
            usage=session.usage(),
            no_hypothesis_reason="the feature fires in none of the windows",
        )
    view = EvidenceView.of(evidence)
    count = StepOptions.of(request.options).hypothesis_count
    reply = await ask(
        session,
        request.options,
        "propose_hypotheses",
        ProposeReply,
        view=view,
        count=count,
        density_percent=f"{100 * evidence.facts.density:.3g}",
        neighbors=_neighbor_lines(evidence),
    )
    kept = _distinct(reply.hypotheses)[:count]
    reason = "" if kept else (reply.none_because.strip() or "the model proposed none")
    return ProposeHypothesesResponse(
        hypotheses=[_hypothesis(n, proposed, view) for n, proposed in enumerate(kept, 1)],
        usage=session.usage(),
        no_hypothesis_reason=reason,
    )


def fires(evidence: Evidence) -> bool:
    """Whether there is anything to explain."""
    return evidence.facts.reference_max > 0 and any(
        value > 0
        for listed in evidence.windows
        for window in listed.windows
        for value in window.activations
    )


def _distinct(proposed: list[ProposedHypothesis]) -> list[ProposedHypothesis]:
    first = {" ".join(h.statement.casefold().split()): h for h in reversed(proposed)}
    kept = {id(hypothesis) for hypothesis in first.values()}
    return [hypothesis for hypothesis in proposed if id(hypothesis) in kept]


def _hypothesis(number: int, proposed: ProposedHypothesis, view: EvidenceView) -> Hypothesis:
    return Hypothesis(
        id=f"h{number}",
        statement=proposed.statement,
        kind=HypothesisKind.Value(f"HYPOTHESIS_KIND_{proposed.kind.upper()}"),
        claimed_windows=view.names(proposed.windows),
        status=HYPOTHESIS_STATUS_OPEN,
        revision=1,
        rationale=proposed.why.strip(),
        rival=proposed.rival,
    )


def _neighbor_lines(evidence: Evidence) -> list[str]:
    lines = []
    for listed in evidence.token_neighbors[:_MOST_NEIGHBOR_LINES]:
        close = [*listed.variants, *listed.neighbors][:_NEIGHBORS_PER_TOKEN]
        if close:
            names = ", ".join(_quoted(token.token_bytes) for token in close)
            lines.append(f"{_quoted(listed.token.token_bytes)}: {names}")
    return lines


def _quoted(token: bytes) -> str:
    return visible(token.decode("utf-8", errors="replace")).replace(" ", "␣")
