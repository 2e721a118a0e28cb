"""Guards comparisons against intervals that are too narrow, tests that find what is not
there, and runs that cannot be repeated. Load-bearing: the simulated coverage and error
rate, and the test's exact values by enumeration."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from services.common.statistics.paired import bootstrap_mean, paired_difference

SMALL = 500


def test_the_test_is_the_share_of_sign_flips_that_are_as_large() -> None:
    """By enumeration, not by the library that computes it."""
    differences = [0.3, 0.1, -0.05, 0.2, 0.4, 0.15]
    observed = sum(differences)
    flipped = [
        sum(s * d for s, d in zip(signs, differences, strict=True))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    tail = sum(total >= observed - 1e-12 for total in flipped) / len(flipped)
    found = paired_difference(differences, [0.0] * 6, seed=3)
    assert found.exact
    assert found.p_value == pytest.approx(2 * tail)
    assert found.estimate.mean == pytest.approx(observed / 6)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """200 samples of 40 features: 95 % give or take the error of 200 draws; and with no
    difference at all a p-value below 0.05 in about 5 % of them."""
    rng = np.random.default_rng(0)
    held = errors = 0
    for number in range(200):
        first, second = rng.exponential(1, 40), rng.exponential(1, 40)
        found = paired_difference(first.tolist(), second.tolist(), seed=number, replicates=SMALL)
        assert found.estimate.low is not None and found.estimate.high is not None
        held += found.estimate.low <= 0 <= found.estimate.high
        assert found.p_value is not None
        errors += found.p_value < 0.05
    assert 0.90 <= held / 200 <= 0.98
    assert 0.02 <= errors / 200 <= 0.09


def test_a_difference_is_found_through_what_features_have_in_common() -> None:
    """Pairing is the point: features differ by far more than the two ways of explaining."""
    rng = np.random.default_rng(1)
    hard = rng.uniform(0, 1, 50)
    better = hard + 0.03 + rng.normal(0, 0.02, 50)
    found = paired_difference(better.tolist(), hard.tolist(), seed=0, replicates=SMALL)
    assert found.estimate.low is not None and found.estimate.low > 0.02
    assert found.p_value is not None and found.p_value < 0.01
    shuffled = paired_difference(
        better.tolist(), rng.permutation(hard).tolist(), seed=0, replicates=SMALL
    )
    assert shuffled.estimate.low is not None and shuffled.estimate.low < 0


def test_the_seed_decides_and_nothing_else() -> None:
    values = [0.1, 0.5, 0.4, 0.9, 0.3, 0.8, 0.2]
    assert bootstrap_mean(values, seed=-4) == bootstrap_mean(values, seed=-4)
    assert bootstrap_mean(values, seed=-4) != bootstrap_mean(values, seed=5)


def test_what_resampling_cannot_say_is_not_said() -> None:
    """One feature, or the same difference for all, is no evidence of certainty."""
    alone = paired_difference([0.7], [0.2], seed=0)
    assert (alone.estimate.low, alone.estimate.high, alone.p_value) == (None, None, None)
    same = paired_difference([0.5, 0.25], [0.5, 0.25], seed=0)
    assert (same.estimate.mean, same.estimate.low, same.p_value) == (0.0, None, 1.0)


@pytest.mark.parametrize(
    ("first", "second", "replicates"),
    [
        ([], [], SMALL),
        ([1.0], [1.0, 2.0], SMALL),
        ([math.nan, 1.0], [0.0, 1.0], SMALL),
        ([math.inf, 1.0], [0.0, 1.0], SMALL),
        ([1.0, 2.0], [0.0, 1.0], 10),
    ],
)
def test_values_that_are_no_pairs_are_refused(
    first: list[float], second: list[float], replicates: int
) -> None:
    with pytest.raises(ValueError, match=r"needed|paired|too few"):
        paired_difference(first, second, seed=0, replicates=replicates)
