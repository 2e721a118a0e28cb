"""From measured probes to verdicts and to the end of the loop (method, section 4.5).

Each side of a hypothesis, coverage (predicted active, was ACTIVE) and rejection
(predicted inactive, was SILENT), has a Beta(1, 1) prior. SUPPORTED when both rates are
above `required_rate` with probability >= `support_probability`, REFUTED when either is
with probability <= `refute_probability`, else OPEN. A rewording raises the revision, and
only probes made for the present revision count. Pure code: no clock, no randomness.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from scipy.stats import beta

from saexplain.agent.v1 import agent_pb2
from saexplain.common.v1 import experiment_pb2
from saexplain.explanation.v1 import dossier_pb2

_VERDICTS = frozenset(
    {
        experiment_pb2.PROBE_OUTCOME_ACTIVE,
        experiment_pb2.PROBE_OUTCOME_WEAK,
        experiment_pb2.PROBE_OUTCOME_SILENT,
    }
)


def rate_probability(passed: int, count: int, required_rate: float) -> float:
    """P(rate > required_rate) after `passed` of `count`, under a Beta(1, 1) prior."""
    return float(beta.sf(required_rate, 1 + passed, 1 + count - passed))


def has_verdict(result: experiment_pb2.ProbeResult) -> bool:
    """Whether a probe says anything: ambiguous and invalid ones do not."""
    return result.outcome in _VERDICTS


def passes(predicted_active: bool, outcome: experiment_pb2.ProbeOutcome.ValueType) -> bool:
    """ACTIVE bears a positive out, SILENT a negative; WEAK neither."""
    wanted = (
        experiment_pb2.PROBE_OUTCOME_ACTIVE
        if predicted_active
        else experiment_pb2.PROBE_OUTCOME_SILENT
    )
    return outcome == wanted


def tally(
    hypothesis: experiment_pb2.Hypothesis,
    results: Iterable[experiment_pb2.ProbeResult],
    thresholds: dossier_pb2.Thresholds,
) -> experiment_pb2.HypothesisTally:
    """Counts the probes made for the present revision of a hypothesis."""
    counts = experiment_pb2.HypothesisTally()
    for result in results:
        probe = result.probe
        if (probe.hypothesis_id, probe.hypothesis_revision) != (hypothesis.id, hypothesis.revision):
            continue
        if not has_verdict(result):
            counts.undecided_count += 1
        elif probe.predicted_active:
            counts.positive_count += 1
            counts.positive_passed_count += result.passed
        else:
            counts.negative_count += 1
            counts.negative_passed_count += result.passed
    rate = thresholds.required_rate
    counts.coverage_probability = rate_probability(
        counts.positive_passed_count, counts.positive_count, rate
    )
    counts.rejection_probability = rate_probability(
        counts.negative_passed_count, counts.negative_count, rate
    )
    return counts


def status_of(
    counts: experiment_pb2.HypothesisTally, thresholds: dossier_pb2.Thresholds
) -> experiment_pb2.HypothesisStatus.ValueType:
    """SUPPORTED, REFUTED or OPEN by the two posteriors."""
    sides = (counts.coverage_probability, counts.rejection_probability)
    if min(sides) <= thresholds.refute_probability:
        return experiment_pb2.HYPOTHESIS_STATUS_REFUTED
    if min(sides) >= thresholds.support_probability:
        return experiment_pb2.HYPOTHESIS_STATUS_SUPPORTED
    return experiment_pb2.HYPOTHESIS_STATUS_OPEN


def decide(
    state: agent_pb2.RunState,
    new_results: Sequence[experiment_pb2.ProbeResult],
    thresholds: dossier_pb2.Thresholds,
    exemplars: Sequence[str],
    round_number: int,
    *,
    decides: bool = True,
) -> agent_pb2.RunState:
    """The state after a round: results appended, tallies and statuses of open
    hypotheses brought up to date, uncovered exemplars listed. `state` is left alone.

    Args:
        decides: False where the explainer gives the verdicts: the tallies with their
            posteriors are recorded all the same, statuses stay.
    """
    decided = agent_pb2.RunState()
    decided.CopyFrom(state)
    decided.results.extend(new_results)
    decided.round = round_number
    for hypothesis in decided.hypotheses:
        if hypothesis.status == experiment_pb2.HYPOTHESIS_STATUS_OPEN:
            hypothesis.tally.CopyFrom(tally(hypothesis, decided.results, thresholds))
            if decides:
                hypothesis.status = status_of(hypothesis.tally, thresholds)
    del decided.uncovered_windows[:]
    decided.uncovered_windows.extend(uncovered(decided.hypotheses, exemplars))
    return decided


def uncovered(
    hypotheses: Iterable[experiment_pb2.Hypothesis], exemplars: Iterable[str]
) -> list[str]:
    """Exemplar windows that no supported hypothesis claims, in the order given."""
    claimed = {
        window
        for hypothesis in hypotheses
        if hypothesis.status == experiment_pb2.HYPOTHESIS_STATUS_SUPPORTED
        for window in hypothesis.claimed_windows
    }
    return [window for window in exemplars if window not in claimed]


def open_hypotheses(state: agent_pb2.RunState) -> list[experiment_pb2.Hypothesis]:
    """The hypotheses that still have to be tested."""
    return [h for h in state.hypotheses if h.status == experiment_pb2.HYPOTHESIS_STATUS_OPEN]


def standing_key(state: agent_pb2.RunState) -> str:
    """What stands after a round, as one string: two rounds with the same key would be
    synthesised from the same supported claims."""
    standing = sorted(
        f"{h.id}@{h.revision}"
        for h in state.hypotheses
        if h.status == experiment_pb2.HYPOTHESIS_STATUS_SUPPORTED
    )
    return ",".join(standing)


def is_decided(state: agent_pb2.RunState) -> bool:
    """All hypotheses are decided and all exemplars covered."""
    return not open_hypotheses(state) and not state.uncovered_windows


def made_progress(
    before: agent_pb2.RunState,
    after: agent_pb2.RunState,
    new_results: Sequence[experiment_pb2.ProbeResult],
) -> bool:
    """Whether a round taught anything: a verdict on a probe, or a changed status."""
    if any(has_verdict(result) for result in new_results):
        return True
    return [h.status for h in before.hypotheses] != [h.status for h in after.hypotheses]


def after_revision(
    state: agent_pb2.RunState,
    response: agent_pb2.ReviseHypothesesResponse,
    exemplars: Iterable[str],
) -> agent_pb2.RunState:
    """The state that a revision leaves; `state` is left alone."""
    revised = agent_pb2.RunState()
    revised.CopyFrom(state)
    del revised.hypotheses[:]
    revised.hypotheses.extend(response.hypotheses)
    revised.review_count += response.reviewed
    del revised.uncovered_windows[:]
    revised.uncovered_windows.extend(uncovered(revised.hypotheses, exemplars))
    return revised


def stop_after_revision(
    revised: agent_pb2.RunState, *, decides: bool = True
) -> dossier_pb2.StopReason.ValueType | None:
    """Why the loop ends after a revision: nothing is open any more, so that another round
    would have nothing to test. None to go on.

    Args:
        decides: False where the explainer gives the verdicts and so decides on the end.
    """
    if open_hypotheses(revised):
        return None
    if is_decided(revised) or not decides:
        return dossier_pb2.STOP_REASON_DECIDED
    return dossier_pb2.STOP_REASON_NO_PROGRESS


def stop_after(
    before: agent_pb2.RunState,
    after: agent_pb2.RunState,
    new_results: Sequence[experiment_pb2.ProbeResult],
) -> dossier_pb2.StopReason.ValueType | None:
    """Why the loop ends after a round, budgets aside; None to go on."""
    if is_decided(after):
        return dossier_pb2.STOP_REASON_DECIDED
    if not made_progress(before, after, new_results):
        return dossier_pb2.STOP_REASON_NO_PROGRESS
    return None
