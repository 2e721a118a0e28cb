"""Verdicts against figures of the method and against hand-counted posteriors. The
load-bearing checks are the error rates of method, section 4.5: an off-by-one in the prior
or a swapped side moves them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad

from saexplain.agent.v1 import agent_pb2
from saexplain.common.v1 import experiment_pb2 as e
from saexplain.explanation.v1 import dossier_pb2
from services.orchestrator import verdicts
from services.orchestrator.plan import default_thresholds

THRESHOLDS = default_thresholds()
_ACTIVE, _WEAK, _SILENT = (
    e.PROBE_OUTCOME_ACTIVE,
    e.PROBE_OUTCOME_WEAK,
    e.PROBE_OUTCOME_SILENT,
)


def hypothesis(identifier: str = "h1", revision: int = 1, **fields: object) -> e.Hypothesis:
    """An open hypothesis."""
    return e.Hypothesis(
        id=identifier,
        revision=revision,
        status=e.HYPOTHESIS_STATUS_OPEN,
        **fields,  # type: ignore[arg-type]
    )


def result(
    predicted_active: bool,
    outcome: e.ProbeOutcome.ValueType,
    identifier: str = "h1",
    revision: int = 1,
) -> e.ProbeResult:
    """A measured probe."""
    probe = e.Probe(
        hypothesis_id=identifier, hypothesis_revision=revision, predicted_active=predicted_active
    )
    passed = verdicts.passes(predicted_active, outcome)
    return e.ProbeResult(probe=probe, outcome=outcome, passed=passed)


@pytest.mark.parametrize(("passed", "count"), [(0, 0), (6, 6), (5, 6), (20, 24)])
def test_the_posterior_is_the_integral_of_the_likelihood(passed: int, count: int) -> None:
    """Guards against another prior: P is integrated from the likelihood under a flat one."""

    def likelihood(rate: float) -> float:
        return float(rate**passed * (1 - rate) ** (count - passed))

    expected = quad(likelihood, 0.7, 1)[0] / quad(likelihood, 0, 1)[0]
    assert verdicts.rate_probability(passed, count, 0.7) == pytest.approx(expected, rel=1e-6)


ROUNDS, PROBES_PER_SIDE = 4, 6
"""The defaults of the loop: one look per round."""


def verdict_table() -> np.ndarray:
    """The status that the code gives, by round (from 1) and passed probes of each side:
    shape [round, passed positives, passed negatives]. The rule has no other input."""
    most = ROUNDS * PROBES_PER_SIDE
    table = np.zeros((ROUNDS + 1, most + 1, most + 1), dtype=int)
    for number in range(1, ROUNDS + 1):
        count = number * PROBES_PER_SIDE
        rates = [verdicts.rate_probability(passed, count, 0.7) for passed in range(count + 1)]
        for positives, coverage in enumerate(rates):
            for negatives, rejection in enumerate(rates):
                counts = e.HypothesisTally(
                    coverage_probability=coverage, rejection_probability=rejection
                )
                table[number, positives, negatives] = verdicts.status_of(counts, THRESHOLDS)
    return table


def simulated(coverage: float, rejection: float, runs: int = 200_000) -> dict[int, float]:
    """Share of hypotheses with these true rates that end in each status."""
    rng = np.random.default_rng(11)
    shape = (ROUNDS, runs)
    passed = [
        rng.binomial(PROBES_PER_SIDE, rate, shape).cumsum(0) for rate in (coverage, rejection)
    ]
    table, status = verdict_table(), np.full(runs, e.HYPOTHESIS_STATUS_OPEN)
    for number in range(1, ROUNDS + 1):
        found = table[number, passed[0][number - 1], passed[1][number - 1]]
        status = np.where(status == e.HYPOTHESIS_STATUS_OPEN, found, status)
    return {s: float((status == s).mean()) for s in e.HypothesisStatus.values()}


@pytest.mark.parametrize(
    ("coverage", "rejection", "low", "high"),
    [
        (0.9, 0.9, 0.80, 0.90),
        (0.7, 0.7, 0.0, 0.03),
        (0.6, 0.6, 0.0, 0.01),
        # One side alone decides nothing: it must not make up for the other.
        (1.0, 0.5, 0.0, 0.05),
        (0.5, 1.0, 0.0, 0.05),
    ],
)
def test_error_rates_are_those_of_the_method(
    coverage: float, rejection: float, low: float, high: float
) -> None:
    """At most four rounds of 6 + 6 probes with a look after each: false support at most 3 %
    at a true 0.7 and power at least 80 % at a true 0.9. Load-bearing: the verdicts are the
    code's own, read from a table over all counts there can be."""
    shares = simulated(coverage, rejection)
    assert low <= shares[e.HYPOTHESIS_STATUS_SUPPORTED] <= high


def test_what_is_true_is_seldom_refuted_and_what_is_false_mostly() -> None:
    """The other side of the rule: a bound on support alone is met by never deciding."""
    assert simulated(0.9, 0.9)[e.HYPOTHESIS_STATUS_REFUTED] <= 0.15
    assert simulated(0.4, 0.9)[e.HYPOTHESIS_STATUS_REFUTED] >= 0.85


def test_a_lower_bar_of_support_lets_more_through() -> None:
    """Negative control: the table must be the thresholds' and not fixed."""
    lenient = default_thresholds()
    lenient.support_probability = 0.5
    counts = e.HypothesisTally(coverage_probability=0.6, rejection_probability=0.6)
    assert verdicts.status_of(counts, lenient) == e.HYPOTHESIS_STATUS_SUPPORTED
    assert verdicts.status_of(counts, THRESHOLDS) == e.HYPOTHESIS_STATUS_OPEN


def test_three_probes_a_side_never_decide_for_support() -> None:
    """The published number of probes is too small for any verdict of support."""
    assert verdicts.rate_probability(3, 3, 0.7) < THRESHOLDS.support_probability


def test_weak_counts_against_both_sides() -> None:
    """Guards against WEAK being taken for silence or for firing."""
    counts = verdicts.tally(hypothesis(), [result(True, _WEAK), result(False, _WEAK)], THRESHOLDS)
    assert (counts.positive_count, counts.positive_passed_count) == (1, 0)
    assert (counts.negative_count, counts.negative_passed_count) == (1, 0)


@pytest.mark.parametrize("outcome", [e.PROBE_OUTCOME_AMBIGUOUS, e.PROBE_OUTCOME_INVALID])
def test_probes_without_a_verdict_count_on_no_side(outcome: e.ProbeOutcome.ValueType) -> None:
    """Guards against a failed measurement that looks like a failed prediction."""
    counts = verdicts.tally(hypothesis(), [result(True, outcome)], THRESHOLDS)
    assert (counts.positive_count, counts.negative_count, counts.undecided_count) == (0, 0, 1)


def test_a_rewording_starts_the_count_again() -> None:
    """Old probes are evidence, not a verdict on the new wording."""
    old = [result(True, _ACTIVE) for _ in range(12)]
    counts = verdicts.tally(hypothesis(revision=2), old, THRESHOLDS)
    assert counts.positive_count == 0


def decided(*results: e.ProbeResult, claimed: tuple[str, ...] = ("w1",)) -> agent_pb2.RunState:
    """The state after one round of results for `h1`."""
    state = agent_pb2.RunState(hypotheses=[hypothesis(claimed_windows=claimed)])
    return verdicts.decide(state, results, THRESHOLDS, ["w1", "w2"], 1)


def test_both_sides_have_to_hold_for_support() -> None:
    """Guards against the published loop's fault: coverage alone supports nothing."""
    positives = [result(True, _ACTIVE) for _ in range(12)]
    negatives = [result(False, _SILENT) for _ in range(12)]
    status = e.HypothesisStatus
    assert decided(*positives).hypotheses[0].status == status.Value("HYPOTHESIS_STATUS_OPEN")
    both = decided(*positives, *negatives)
    assert both.hypotheses[0].status == e.HYPOTHESIS_STATUS_SUPPORTED
    fired = [result(False, _ACTIVE) for _ in range(12)]
    assert decided(*positives, *fired).hypotheses[0].status == e.HYPOTHESIS_STATUS_REFUTED


def test_only_supported_claims_cover_exemplars() -> None:
    """Guards against an open hypothesis that hides what nothing explains."""
    assert list(decided().uncovered_windows) == ["w1", "w2"]
    good = [result(True, _ACTIVE) for _ in range(12)] + [result(False, _SILENT) for _ in range(12)]
    assert list(decided(*good).uncovered_windows) == ["w2"]


def test_the_loop_ends_when_decided_and_covered_or_when_nothing_moves() -> None:
    """Guards against a loop that runs on, or ends with exemplars unexplained."""
    good = [result(True, _ACTIVE) for _ in range(12)] + [result(False, _SILENT) for _ in range(12)]
    before = agent_pb2.RunState(hypotheses=[hypothesis()])
    covered = decided(*good, claimed=("w1", "w2"))
    assert verdicts.stop_after(before, covered, good) == dossier_pb2.STOP_REASON_DECIDED
    assert verdicts.stop_after(before, decided(*good), good) is None
    silent = [result(True, e.PROBE_OUTCOME_INVALID)]
    stalled = decided(*silent)
    assert verdicts.stop_after(before, stalled, silent) == dossier_pb2.STOP_REASON_NO_PROGRESS


def test_deciding_leaves_the_state_before_alone() -> None:
    """Guards against a state artifact that changes under a repeat."""
    state = agent_pb2.RunState(hypotheses=[hypothesis()])
    copy = agent_pb2.RunState.FromString(state.SerializeToString())
    verdicts.decide(state, [result(True, _ACTIVE)], THRESHOLDS, [], 1)
    assert state == copy
