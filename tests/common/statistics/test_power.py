"""How many examples and features a precision needs, against simulation and textbook cases."""

from __future__ import annotations

import math

import numpy as np
import pytest

from services.common.statistics.power import (
    ScoredFeature,
    examples_for_share,
    features_for_mean,
    features_to_detect,
    need,
)


def test_a_share_needs_the_examples_of_the_textbook():
    """Guards against a width where half a width is meant: 0.05 at one half takes 381 by
    Wilson (385 by the normal approximation)."""
    assert examples_for_share(0.05) == 381
    assert examples_for_share(0.05, share=0.9) < examples_for_share(0.05)
    assert examples_for_share(0.1) == 93


def test_a_rarer_share_is_never_below_the_width():
    """Guards against a search that stops one too early or too late."""
    for share in (0.0, 0.2, 1.0):
        fewest = examples_for_share(0.03, share)
        z2 = 1.959963984540054**2

        def half(n, share=share, z2=z2):
            return math.sqrt(z2 * (share * (1 - share) / n + z2 / 4 / n**2)) / (1 + z2 / n)

        assert half(fewest) <= 0.03 < half(fewest - 1)


def test_features_are_enough_in_simulation():
    """Guards against a normal quantile where few features need Student's."""
    count = features_for_mean(0.1, 0.05)
    assert count == 18
    rng = np.random.default_rng(3)
    draws = rng.normal(0, 0.1, (4000, count))
    assert np.mean(np.abs(draws.mean(axis=1)) <= 0.05) >= 0.95


def test_the_power_of_a_paired_comparison_is_reached_in_simulation():
    """Guards against a one-sided quantile, which would find the difference less often."""
    count = features_to_detect(0.2, 0.05)
    assert count == 126
    rng = np.random.default_rng(4)
    draws = rng.normal(0.05, 0.2, (4000, count))
    found = np.abs(draws.mean(axis=1)) * math.sqrt(count) / draws.std(axis=1, ddof=1) > 1.96
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)


def test_both_parts_of_the_variance_are_recovered():
    """Guards against examples that are blamed for the spread of features, and the other way
    round."""
    rng = np.random.default_rng(5)
    true = rng.normal(0.6, 0.1, 400)
    seen = rng.binomial(50, np.clip(true, 0, 1)) / 50
    half = 1.959963984540054 * np.sqrt(seen * (1 - seen) / 50)
    pairs = zip(seen.tolist(), half.tolist(), strict=True)
    scores = [ScoredFeature(v, v - h, v + h, 50) for v, h in pairs]
    found = need(scores, 0.05)
    assert found.between_sd == pytest.approx(0.1, abs=0.02)
    assert found.within_sd == pytest.approx(0.48, abs=0.02)
    assert found.examples_per_feature == pytest.approx(355, abs=30)
    assert found.features == pytest.approx(24, abs=3)
    assert found.present_half_width == pytest.approx(0.012, abs=0.002)


def test_one_feature_says_nothing_about_their_number():
    """Guards against a spread of 0 that is taken for a measurement."""
    found = need([ScoredFeature(0.5, 0.4, 0.6, 100)], 0.05)
    assert found.examples_per_feature == 400
    assert found.features is None and found.between_sd is None
    assert found.present_half_width is None


def test_what_is_out_of_reach_has_no_number():
    """Guards against a number of examples that nobody can have, and an endless search."""
    assert examples_for_share(1e-6) is None
    assert features_for_mean(1e6, 1e-6) is None
    assert features_to_detect(1e6, 1e-6) is None
    assert features_for_mean(0.0, 0.05) == 2


@pytest.mark.parametrize(
    "ask",
    [
        lambda: examples_for_share(0.0),
        lambda: examples_for_share(0.5),
        lambda: examples_for_share(0.1, share=1.1),
        lambda: examples_for_share(0.1, level=1.0),
        lambda: features_for_mean(float("nan"), 0.1),
        lambda: features_for_mean(0.1, 0.0),
        lambda: features_to_detect(0.1, 0.0),
        lambda: features_to_detect(0.1, 0.1, power=1.0),
        lambda: need([], 0.1),
        lambda: ScoredFeature(0.5, 0.6, 0.4, 10),
        lambda: ScoredFeature(0.5, float("nan"), 0.6, 10),
    ],
)
def test_nonsense_is_refused(ask):
    """Guards against numbers that are computed from nonsense."""
    with pytest.raises(ValueError):
        ask()
