"""Second step of a round: probes for all open hypotheses, in one call."""

from __future__ import annotations

from collections import Counter

from saexplain.agent.v1.agent_pb2 import DesignProbesRequest, DesignProbesResponse, RunState
from saexplain.common.v1.experiment_pb2 import (
    HYPOTHESIS_STATUS_OPEN,
    PROBE_ROLE_POSITIVE,
    Probe,
    ProbeRole,
)
from services.agent.explainers.base import StepOptions
from services.agent.explainers.probe_checks import ProbeGate
from services.agent.explainers.sage.asking import ask, shown_hypothesis
from services.agent.explainers.sage.render import EvidenceView, ShownResult, show_result
from services.agent.explainers.sage.replies import DesignedProbe, DesignReply
from services.common.llm.session import LlmSession

_EXEMPLARS = 6
_RESULTS_PER_HYPOTHESIS = 6


async def design(request: DesignProbesRequest, session: LlmSession) -> DesignProbesResponse:
    """Asks once for all OPEN hypotheses; no call where there is none.

    Half of the probes predicted inactive are boundaries, half minimal pairs.
    """
    state, options = request.state, StepOptions.of(request.options)
    tested = [h for h in state.hypotheses if h.status == HYPOTHESIS_STATUS_OPEN]
    if not tested:
        return DesignProbesResponse(usage=session.usage())
    twin_count = min(options.negative_probe_count // 2, options.positive_probe_count)
    view = EvidenceView.of(request.evidence)
    reply = await ask(
        session,
        request.options,
        "design_probes",
        DesignReply,
        exemplars=view.strongest(_EXEMPLARS),
        hypotheses=[shown_hypothesis(h) for h in tested],
        results=_latest(state, {h.id for h in tested}, request.evidence.facts.reference_max),
        positive_count=options.positive_probe_count,
        boundary_count=options.negative_probe_count - twin_count,
        twin_count=twin_count,
    )
    drafts = _within_counts([_draft(probe) for probe in reply.probes], options)
    admitted, refused = ProbeGate(request.evidence, state).admit(drafts)
    return DesignProbesResponse(probes=admitted, refused_probes=refused, usage=session.usage())


def _latest(state: RunState, tested: set[str], reference_max: float) -> list[ShownResult]:
    """The last few results of each hypothesis, oldest first."""
    counts: Counter[str] = Counter()
    kept = []
    for result in reversed(state.results):
        owner = result.probe.hypothesis_id
        if owner in tested and counts[owner] < _RESULTS_PER_HYPOTHESIS:
            counts[owner] += 1
            kept.append(show_result(result, reference_max))
    return kept[::-1]


def _draft(designed: DesignedProbe) -> Probe:
    role = ProbeRole.Value(f"PROBE_ROLE_{designed.role.upper()}")
    return Probe(
        id=designed.id,
        hypothesis_id=designed.hypothesis.strip(),
        text=designed.text,
        role=role,
        predicted_active=role == PROBE_ROLE_POSITIVE,
        rationale=designed.why.strip(),
        twin_probe_id=designed.twin_of or "",
    )


def _within_counts(drafts: list[Probe], options: StepOptions) -> list[Probe]:
    """The first so many of each side of each hypothesis: what was asked for."""
    counts: Counter[tuple[str, bool]] = Counter()
    kept = []
    for draft in drafts:
        side = (draft.hypothesis_id, draft.predicted_active)
        counts[side] += 1
        limit = (
            options.positive_probe_count if draft.predicted_active else options.negative_probe_count
        )
        if counts[side] <= limit:
            kept.append(draft)
    return kept
