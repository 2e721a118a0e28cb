"""Pearson's correlation against scipy and numpy, and where it has no value."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr

from services.scorer.statistics.correlation import pearson, pearson_of_sums, pearson_sums

values = st.lists(
    st.tuples(st.floats(-100, 100), st.floats(-100, 100), st.integers(1, 5)),
    min_size=2,
    max_size=30,
)


def test_it_equals_scipy_and_weights_count_like_repeats():
    """Guards against weights that enter the covariance but not the means."""
    rng = np.random.default_rng(1)
    x, w = rng.normal(size=200), rng.integers(1, 6, 200)
    y = x + rng.normal(size=200)
    assert pearson(x, y).value == pytest.approx(pearsonr(x, y)[0], abs=1e-12)
    repeated = pearson(np.repeat(x, w), np.repeat(y, w)).value
    assert pearson(x, y, w.astype(float)).value == pytest.approx(repeated, abs=1e-12)


@pytest.mark.parametrize("constant", [0.1, 1 / 3, 0.0, 1e-300])
def test_a_constant_side_has_no_correlation(constant):
    """Guards against rounding noise: numpy.corrcoef gives [0.1, 0.1, 0.1] an r."""
    side, other = np.full(3, constant), np.array([1.0, 2.0, 4.0])
    assert pearson(side, other).reason == "the predictions are constant"
    assert pearson(other, side).reason == "the measured values are constant"
    assert pearson(other[:1], other[:1]).value is None


def test_tiny_and_huge_values_keep_their_correlation():
    """Guards against squares that underflow to 0 or overflow."""
    x, y = np.array([1.0, 2.0, 4.0]), np.array([1.0, 3.0, 2.0])
    for factor in (1e-200, 1e200):
        assert pearson(x * factor, y).value == pytest.approx(pearson(x, y).value)


def test_what_is_not_finite_is_refused():
    """Guards against NaN that turns into an undefined score without a culprit."""
    with pytest.raises(ValueError, match="finite"):
        pearson(np.array([1.0, np.nan]), np.array([1.0, 2.0]))
    with pytest.raises(ValueError, match="shapes"):
        pearson(np.ones(2), np.ones(3))


@given(values)
def test_an_estimate_is_in_range_or_undefined(rows):
    """Guards against r beyond 1 by rounding, and any NaN that leaves."""
    x, y, w = (np.array([r[i] for r in rows], np.float64) for i in range(3))
    value = pearson(x, y, w).value
    assert value is None or -1 <= value <= 1


def test_moments_of_a_subset_give_its_correlation():
    """Guards against replicates of another quantity than the estimate."""
    rng = np.random.default_rng(2)
    x, y, w = rng.normal(size=60) + 9, rng.normal(size=60) - 3, rng.uniform(1, 9, 60)
    moments = pearson_sums(x, y, w)
    chosen = rng.integers(0, 60, 45)
    got = pearson_of_sums(moments[chosen].sum(axis=0)[None])[0]
    assert got == pytest.approx(pearson(x[chosen], y[chosen], w[chosen]).value)
    lone = pearson_of_sums(moments[[3, 3, 3]].sum(axis=0)[None])[0]
    assert np.isnan(lone)
