"""Weighted ratios against hand-counted and brute-force values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scorer.statistics import classification as cls

B = lambda *values: np.array(values, np.bool_)  # noqa: E731


def test_weights_count_like_repeats():
    """Guards against weights that only scale: an item of weight 3 is three items."""
    predicted, actual = B(1, 1, 0, 0), B(1, 0, 1, 0)
    weighted = cls.confusion(predicted, actual, np.array([3.0, 2.0, 1.0, 5.0]))
    repeats = np.array([0] * 3 + [1] * 2 + [2] + [3] * 5)
    counted = cls.confusion(predicted[repeats], actual[repeats], np.ones(11))
    assert weighted == counted
    assert weighted.precision().value == 3 / 5
    assert weighted.recall().value == 3 / 4
    assert weighted.f1().value == pytest.approx(2 * 0.6 * 0.75 / 1.35)


def test_what_has_no_value_says_why():
    """Guards against 0 or NaN for empty classes, and against F1 = 1 by silence."""
    one = np.ones(2)
    nothing = cls.confusion(B(0, 0), B(0, 0), one)
    assert [e.value for e in (nothing.precision(), nothing.recall(), nothing.f1())] == [None] * 3
    assert nothing.f1().reason == cls.NO_POSITIVES
    silent = cls.confusion(B(0, 0), B(1, 0), one)
    assert silent.precision().reason == cls.NONE_PREDICTED
    assert silent.f1().value == 0.0
    assert cls.average_precision(one, B(0, 0), one).value is None


def test_weights_must_be_positive_and_finite():
    """Guards against an inclusion probability of 0 that reaches an estimate."""
    for bad in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="weights"):
            cls.confusion(B(1, 0), B(1, 0), np.array([1.0, bad]))


def brute_force(scores, actual, weights) -> float:
    """Average precision from its definition, threshold by threshold."""
    area = last_recall = 0.0
    for threshold in sorted(set(scores), reverse=True):
        called = scores >= threshold
        tp = weights[called & actual].sum()
        recall, precision = tp / weights[actual].sum(), tp / weights[called].sum()
        area += (recall - last_recall) * precision
        last_recall = recall
    return area


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.booleans(), st.floats(0.1, 50)), min_size=1, max_size=30
    )
)
def test_average_precision_equals_its_definition_with_ties(items):
    """Guards against ties that are ordered by truth, which raises the area."""
    scores = np.array([i[0] for i in items], np.float64)
    actual, weights = B(*[i[1] for i in items]), np.array([i[2] for i in items])
    got = cls.average_precision(scores, actual, weights)
    if not actual.any():
        assert got.value is None
        return
    assert got.value == pytest.approx(brute_force(scores, actual, weights))
    rows = cls.average_precisions(scores, actual, np.stack([weights, 2 * weights]))
    assert rows == pytest.approx([got.value] * 2)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=20))
def test_the_best_threshold_beats_every_other(items):
    """Guards against a baseline whose threshold was not fitted."""
    scores, actual = np.array([i[0] for i in items], float), B(*[i[1] for i in items])
    weights = np.ones(len(items))
    best = cls.best_f1_threshold(scores, actual, weights)
    if not actual.any():
        assert best is None
        return
    f1 = [cls.confusion(scores >= t, actual, weights).f1().value for t in set(scores)]
    assert cls.confusion(scores >= best, actual, weights).f1().value == max(f1)


def test_horvitz_thompson_sums_find_the_population():
    """Guards against estimates at the prevalence of the sample: positives are sampled
    fully, negatives one in ten."""
    rng = np.random.default_rng(0)
    actual = rng.random(20_000) < 0.02
    predicted = np.where(actual, rng.random(20_000) < 0.8, rng.random(20_000) < 0.01)
    share = np.where(actual, 1.0, 0.1)
    everything = cls.confusion(predicted, actual, np.ones(20_000)).f1().value
    estimates, naive = [], []
    for _ in range(50):
        kept = rng.random(20_000) < share
        sample = predicted[kept], actual[kept]
        estimates.append(cls.confusion(*sample, 1 / share[kept]).f1().value)
        naive.append(cls.confusion(*sample, np.ones(kept.sum())).f1().value)
    assert np.mean(estimates) == pytest.approx(everything, rel=0.02)
    assert np.mean(naive) > everything + 0.1
