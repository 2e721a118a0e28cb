"""Guards a comparison against answers that its rows do not give: values that are dropped
without a word, failures that become zeros, stars by chance, bytes that differ.
Load-bearing: the difference is the one that was put into the rows."""

from __future__ import annotations

import pytest

from services.cli.comparison.model import Comparison
from services.cli.comparison.results import compare
from services.cli.comparison.rows import Row, Value
from services.cli.comparison.tables import primary_differences
from services.common.errors import InvalidArgument
from tests.cli.comparison.rows_made import FEATURES, PRIMARY, question, row, rows


def _compared(**changes: object) -> Comparison:
    return compare(rows(**changes), question())


def test_the_difference_is_the_one_that_was_made() -> None:
    """0.1 apart through 24 features of very different difficulty; chance metrics stay open."""
    found = _compared()
    (primary,) = found.primary
    assert primary.found is not None
    estimate = primary.found.estimate
    assert estimate.mean == pytest.approx(0.1, abs=0.015)
    assert estimate.low is not None
    assert estimate.low > 0.08
    assert primary.adjusted_p == primary.found.p_value
    assert primary.adjusted_p is not None
    assert primary.adjusted_p < 0.01
    assert [d.metric for d in found.others] == ["corpus.recall", "detection.accuracy"]
    assert all(d.adjusted_p is not None and d.adjusted_p > 0.05 for d in found.others)
    assert [d.insensitive for d in found.others] == [True, False]


def test_the_primary_metric_is_not_corrected_for_the_others() -> None:
    """One metric was named beforehand: it pays for no other; the others pay for each other."""
    found = _compared()
    raw = [d.found.p_value for d in found.others if d.found is not None]
    adjusted = [d.adjusted_p for d in found.others]
    smallest = min(p for p in raw if p is not None)
    assert min(p for p in adjusted if p is not None) == min(1.0, 2 * smallest)


def test_a_feature_without_a_value_is_left_out_of_pairs_and_counted() -> None:
    """Not wrong and not zero: the other's value must not count against it either."""
    nothing = {PRIMARY: Value(None, "There is no explanation to score.")}
    found = _compared(outcome="no explanation", reason="nothing stands", values=nothing)
    (primary,) = found.primary
    assert primary.found is not None
    assert (primary.found.estimate.count, primary.unpaired) == (23, 1)
    assert primary.found.estimate.mean == pytest.approx(0.1, abs=0.015)
    assert found.standings[0].outcomes == {"explained": 23, "no explanation": 1}
    assert found.standings[0].means[PRIMARY].count == 23
    assert [r.reason for r in found.failures] == ["nothing stands"]


def test_a_failed_run_is_shown_and_its_cost_counts() -> None:
    """What a failure cost was spent all the same."""
    dear = row("b", FEATURES[0]).cost
    found = _compared(outcome="failed", reason="LLM_UNAVAILABLE: no answer", values={}, cost=dear)
    standing = found.standings[0]
    assert standing.outcomes["failed"] == 1
    assert standing.spent.explaining_tokens == pytest.approx(1_000 / 24)
    assert standing.spent.money == pytest.approx(0.01 / 24)


def test_an_unknown_price_makes_the_mean_unknown() -> None:
    """Never 0 for unknown, and no mean of those that are known."""
    known = row("b", FEATURES[0]).cost
    assert known is not None
    unknown = type(known)(900, 1_000, 400, None, "", 3.5)
    assert _compared(cost=unknown).standings[0].spent.money is None


def test_beside_trivial_explanations_a_memory_shows() -> None:
    """`a` lies on both sides of the table of tokens; the made `b` above it where it is."""
    copied = [
        row(
            "a",
            feature,
            values={PRIMARY: Value(0.5, baselines={"top_token": 0.1, "token_table": 0.5})},
        )
        for feature in FEATURES
    ]
    made = [*copied, *(r for r in rows() if r.explainer == "b")]
    memory = compare(made, question()).standings[0].leakage
    assert memory.gap_closed == pytest.approx(1.0)
    assert not memory.beats_table
    assert memory.features_above == 0
    better = [
        row("a", f, values={PRIMARY: Value(v, baselines={"top_token": 0.1, "token_table": 0.5})})
        for f, v in zip(FEATURES, [0.6 + 0.01 * (i % 5) for i in range(24)], strict=True)
    ]
    above = compare([*better, *(r for r in rows() if r.explainer == "b")], question())
    assert above.standings[0].leakage.beats_table


def test_three_features_never_beat_the_table() -> None:
    """A bootstrap of three values may well lie above 0; the test knows better."""
    few = FEATURES[:3]
    made = [
        row(e, f, values={PRIMARY: Value(v, baselines={"top_token": 0.1, "token_table": 0.5})})
        for e in ("a", "b")
        for f, v in zip(few, (0.6, 0.7, 0.8), strict=True)
    ]
    found = compare(made, question(features=few))
    above = found.standings[0].leakage.above_table
    assert above is not None
    assert above.estimate.low is not None
    assert above.estimate.low > 0
    assert not found.standings[0].leakage.beats_table
    assert "claim nothing" in primary_differences(found).note


def test_strata_stand_apart_and_an_unknown_one_is_said() -> None:
    found = _compared()
    assert found.strata == {"eligible": 16, "dense": 8}
    assert found.standings[0].by_stratum["dense"].count == 8
    lost = [
        row(e, f, stratum="" if f == FEATURES[0] else "eligible")
        for e in ("a", "b")
        for f in FEATURES
    ]
    assert compare(lost, question()).strata == {"eligible": 23, "unknown": 1}


def test_three_explainers_share_the_primary_metric_under_holm() -> None:
    third = [Row(**{**vars(r), "explainer": "c"}) for r in rows() if r.explainer == "a"]
    asked = question(explainers=["a", "b", "c"])
    first, second = compare([*rows(), *third], asked).primary
    assert first.found is not None
    assert first.found.p_value is not None
    assert first.adjusted_p == pytest.approx(2 * first.found.p_value)
    assert second.adjusted_p == 1.0


def test_judges_that_differ_are_noticed() -> None:
    value = Value(0.4, judge="gpt-5-mini")
    assert not _compared().mixed_judges
    assert _compared(values={PRIMARY: value}).mixed_judges


@pytest.mark.parametrize(
    ("made", "changes"),
    [
        (rows()[:-1], {}),
        ([*rows(), rows()[0]], {}),
        ([*rows(), row("z", FEATURES[0])], {}),
        (rows(), {"explainers": ["a", "a"]}),
        (rows(), {"explainers": []}),
        (rows(), {"features": []}),
    ],
    ids=["missing", "twice", "unasked", "same explainer", "no explainer", "no feature"],
)
def test_rows_that_do_not_fit_the_question_are_refused(
    made: list[Row], changes: dict[str, object]
) -> None:
    """A run that is missing must not look like a feature that was never asked for."""
    with pytest.raises(InvalidArgument):
        compare(made, question(**changes))
