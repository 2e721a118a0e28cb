"""Last step of a round: the list of hypotheses, changed by what failed.

The model names operations; they are applied here. A source that does not exist, is no
longer in play, is SUPPORTED, or was changed by an operation before makes its operation
void: statuses that the verdict code has given are not the model's to take.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence

import structlog

from saexplain.agent.v1.agent_pb2 import (
    ReviseHypothesesRequest,
    ReviseHypothesesResponse,
    RevisionKind,
    RevisionOperation,
    RunState,
)
from saexplain.common.v1.experiment_pb2 import (
    HYPOTHESIS_STATUS_OPEN,
    HYPOTHESIS_STATUS_REFUTED,
    HYPOTHESIS_STATUS_REJECTED,
    HYPOTHESIS_STATUS_SUPERSEDED,
    HYPOTHESIS_STATUS_SUPPORTED,
    PROBE_OUTCOME_ACTIVE,
    PROBE_OUTCOME_AMBIGUOUS,
    PROBE_OUTCOME_INVALID,
    PROBE_OUTCOME_SILENT,
    Hypothesis,
    HypothesisKind,
    ProbeResult,
)
from services.agent.explainers.llm.asking import Asker, shown_hypothesis
from services.agent.explainers.llm.propose import folded
from services.agent.explainers.llm.render import show_result
from services.agent.explainers.llm.views import EvidenceView
from services.agent.explainers.probe_checks import next_hypothesis_number
from services.agent.explainers.sage.replies import (
    Claim,
    Operation,
    RevisedHypothesis,
    ReviseReply,
)

MAX_OPEN = 6
"""Most hypotheses that a revision may leave open: each costs 12 probes a round."""

_log = structlog.get_logger(__name__)
_CHANGEABLE = (HYPOTHESIS_STATUS_OPEN, HYPOTHESIS_STATUS_REFUTED)
_CLAIMING = (HYPOTHESIS_STATUS_OPEN, HYPOTHESIS_STATUS_SUPPORTED)
_FAILURES_PER_SIDE = 3
_MOST_UNCOVERED = 8


async def revise(request: ReviseHypothesesRequest, asker: Asker) -> ReviseHypothesesResponse:
    """Asks once, with the failures only; no call where nothing failed and every exemplar
    is claimed."""
    state, evidence = request.state, request.evidence
    failures = _failures(state)
    unclaimed = _unclaimed(state)
    if not failures and not unclaimed:
        return ReviseHypothesesResponse(hypotheses=state.hypotheses, usage=asker.usage())
    view = EvidenceView.of(evidence)
    standing = [
        h for h in state.hypotheses if h.status in (*_CHANGEABLE, HYPOTHESIS_STATUS_SUPPORTED)
    ]
    reply = await asker.ask(
        "revise_hypotheses",
        ReviseReply,
        hypotheses=[shown_hypothesis(h) for h in standing],
        failures=[show_result(r, evidence.facts.reference_max) for r in failures],
        uncovered=view.choose(unclaimed, _MOST_UNCOVERED),
        room=MAX_OPEN,
    )
    revision = Revision(state, view)
    for operation in reply.operations:
        revision.apply(operation)
    for claim in reply.claims:
        revision.claim(claim)
    return ReviseHypothesesResponse(
        hypotheses=revision.hypotheses, operations=revision.done, usage=asker.usage()
    )


def _failures(state: RunState) -> list[ProbeResult]:
    """The last few failures of each side of each hypothesis, oldest first."""
    counts: Counter[tuple[str, bool]] = Counter()
    kept = []
    for result in reversed(state.results):
        side = (result.probe.hypothesis_id, result.probe.predicted_active)
        if failed(result, state) and counts[side] < _FAILURES_PER_SIDE:
            counts[side] += 1
            kept.append(result)
    return kept[::-1]


def _unclaimed(state: RunState) -> list[str]:
    """Exemplars that neither a supported nor an open hypothesis claims."""
    claimed = {w for h in state.hypotheses if h.status in _CLAIMING for w in h.claimed_windows}
    return [name for name in state.uncovered_windows if name not in claimed]


def failed(result: ProbeResult, state: RunState) -> bool:
    """Whether a prediction made for the present wording of a hypothesis in play was
    wrong. WEAK is wrong on both sides; without a verdict it is not."""
    if result.outcome in (PROBE_OUTCOME_AMBIGUOUS, PROBE_OUTCOME_INVALID):
        return False
    present = {h.id: h.revision for h in state.hypotheses if h.status in _CHANGEABLE}
    if present.get(result.probe.hypothesis_id) != result.probe.hypothesis_revision:
        return False
    wanted = PROBE_OUTCOME_ACTIVE if result.probe.predicted_active else PROBE_OUTCOME_SILENT
    return result.outcome != wanted


class Revision:
    """Applies operations to a copy of the hypotheses.

    Attributes:
        hypotheses: all of them, in order, new ones last.
        done: the operations that were applied.
    """

    def __init__(self, state: RunState, view: EvidenceView) -> None:
        self.hypotheses: list[Hypothesis] = [copy.deepcopy(h) for h in state.hypotheses]
        self.done: list[RevisionOperation] = []
        self._view = view
        self._round = state.round
        self._next = next_hypothesis_number(state.hypotheses)
        self._untouched = {h.id: h for h in self.hypotheses if h.status in _CHANGEABLE}

    def apply(self, operation: Operation) -> bool:
        """Applies one operation if it is sound; returns whether it was."""
        names = list(dict.fromkeys(source.strip() for source in operation.sources))
        sources = [self._untouched[name] for name in names if name in self._untouched]
        if len(sources) != len(names) or not self._fits(operation, sources):
            _log.info("revision_void", kind=operation.kind, sources=len(names))
            return False
        targets = self._carry_out(operation, sources)
        for source in sources:
            del self._untouched[source.id]
        self.done.append(
            RevisionOperation(
                kind=RevisionKind.Value(f"REVISION_KIND_{operation.kind.upper()}"),
                sources=[source.id for source in sources],
                targets=[target.id for target in targets],
                rationale=operation.why.strip(),
            )
        )
        return True

    def claim(self, claim: Claim) -> None:
        """Adds windows to what an OPEN or SUPPORTED hypothesis claims; its wording and
        its counts stay."""
        for hypothesis in self.hypotheses:
            if hypothesis.id == claim.hypothesis.strip() and hypothesis.status in _CLAIMING:
                known = set(hypothesis.claimed_windows)
                more = self._view.claims(claim.windows)
                hypothesis.claimed_windows.extend(name for name in more if name not in known)

    def _fits(self, operation: Operation, sources: Sequence[Hypothesis]) -> bool:
        shape = (len(sources), len(operation.targets))
        sound = {
            "refine": shape == (1, 1),
            "split": shape[0] == 1 and shape[1] >= 2,
            "merge": shape[0] >= 2 and shape[1] == 1,
            "reject": shape[0] >= 1 and shape[1] == 0,
            "add": shape[0] == 0 and shape[1] >= 1,
        }[operation.kind]
        if not sound or any(not self._is_new(target) for target in operation.targets):
            return False
        leaving = sum(source.status == HYPOTHESIS_STATUS_OPEN for source in sources)
        return self._open_count() - leaving + shape[1] <= MAX_OPEN

    def _open_count(self) -> int:
        return sum(h.status == HYPOTHESIS_STATUS_OPEN for h in self.hypotheses)

    def _is_new(self, target: RevisedHypothesis) -> bool:
        """No hypothesis, dropped ones included, says the same already."""
        return folded(target.statement) not in {folded(h.statement) for h in self.hypotheses}

    def _carry_out(self, operation: Operation, sources: list[Hypothesis]) -> list[Hypothesis]:
        why = operation.why.strip()
        if operation.kind == "refine":
            return [self._reword(sources[0], operation.targets[0], why)]
        status = (
            HYPOTHESIS_STATUS_REJECTED
            if operation.kind == "reject"
            else HYPOTHESIS_STATUS_SUPERSEDED
        )
        for source in sources:
            source.status = status
            source.rationale = why or source.rationale
        parents = [source.id for source in sources]
        return [self._add(target, parents, why) for target in operation.targets]

    def _reword(self, source: Hypothesis, target: RevisedHypothesis, why: str) -> Hypothesis:
        """The counts belong to the old wording: they start anew."""
        source.statement = target.statement
        source.kind = _kind(target)
        source.status = HYPOTHESIS_STATUS_OPEN
        source.revision += 1
        source.rationale = why or source.rationale
        source.ClearField("tally")
        source.ClearField("pattern")
        named = self._view.claims(target.windows)
        if named:
            source.claimed_windows[:] = named
        return source

    def _add(self, target: RevisedHypothesis, parents: list[str], why: str) -> Hypothesis:
        self.hypotheses.append(
            Hypothesis(
                id=f"h{self._next}",
                statement=target.statement,
                kind=_kind(target),
                claimed_windows=self._view.claims(target.windows),
                status=HYPOTHESIS_STATUS_OPEN,
                revision=1,
                created_round=self._round,
                parents=parents,
                rationale=why,
            )
        )
        self._next += 1
        return self.hypotheses[-1]


def _kind(target: RevisedHypothesis) -> HypothesisKind.ValueType:
    return HypothesisKind.Value(f"HYPOTHESIS_KIND_{target.kind.upper()}")
