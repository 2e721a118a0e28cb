"""Intervals against published values, and by how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest

from services.scorer.statistics.intervals import ClusterBootstrap, wilson


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # Newcombe 1998, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_equals_the_published_table(successes, trials, low, high):
    """Guards against the interval with the same name and a continuity correction."""
    bounds = wilson(successes, trials)
    assert (round(bounds.low, 4), round(bounds.high, 4)) == (low, high)


def test_wilson_refuses_no_trials():
    """Guards against an interval of nothing."""
    for successes, trials in ((0, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="trials"):
            wilson(successes, trials)


def mean_bounds(values, clusters, seed=0):
    bootstrap = ClusterBootstrap(clusters, seed, replicates=400)
    sums = bootstrap.sums(np.stack([values, np.ones_like(values)], axis=1))
    return bootstrap.bounds(sums[:, 0] / sums[:, 1], (-np.inf, np.inf))


def test_resampling_documents_is_wider_than_resampling_items():
    """Guards against intervals that take the windows of one document as independent: with
    one value per document, only the former holds the truth 19 times in 20."""
    rng = np.random.default_rng(3)
    held = {"documents": 0, "items": 0}
    for trial in range(100):
        values = np.repeat(rng.normal(size=30), 10)
        documents = [f"d{i // 10}" for i in range(300)]
        items = [f"i{i}" for i in range(300)]
        for name, clusters in (("documents", documents), ("items", items)):
            bounds = mean_bounds(values, clusters, trial)
            held[name] += bounds.low <= 0 <= bounds.high
    assert held["documents"] >= 85
    assert held["items"] <= 65


def test_the_same_seed_gives_the_same_bounds_and_another_does_not():
    """Guards against resamples that depend on anything but the seed."""
    values, clusters = np.arange(30.0), [f"d{i}" for i in range(30)]
    assert mean_bounds(values, clusters, 5) == mean_bounds(values, clusters, 5)
    assert mean_bounds(values, clusters, 5) != mean_bounds(values, clusters, 6)
    assert mean_bounds(values, clusters, -5) == mean_bounds(values, clusters, -5)


def test_order_of_the_items_does_not_matter():
    """Guards against bounds that change with the order in which windows arrive."""
    values, clusters = np.arange(30.0), [f"d{i % 7}" for i in range(30)]
    order = np.random.default_rng(0).permutation(30)
    shuffled = mean_bounds(values[order], [clusters[i] for i in order])
    straight = mean_bounds(values, clusters)
    assert (shuffled.low, shuffled.high) == pytest.approx((straight.low, straight.high))


def test_a_collapsed_bootstrap_is_no_certainty():
    """Guards against [1, 1] for three successes in three documents."""
    bootstrap = ClusterBootstrap([f"d{i}" for i in range(50)], 0)
    certain = bootstrap.bounds(np.ones(1000), (0.0, 1.0), informative=3)
    assert certain.kind == "wilson_cluster" and certain.high == 1.0
    assert certain.low == pytest.approx(wilson(3, 3).low) and certain.low < 0.5


def test_where_resampling_says_nothing_the_whole_range_is_returned():
    """Guards against bounds from one document, or from the few defined replicates."""
    lone = ClusterBootstrap(["d"] * 9, 0)
    assert lone.bounds(np.full(1000, 0.3), (0.0, 1.0)).kind == "range"
    many = ClusterBootstrap([f"d{i}" for i in range(9)], 0)
    mostly_undefined = np.where(np.arange(1000) < 400, 0.5, np.nan)
    bounds = many.bounds(mostly_undefined, (-1.0, 1.0))
    assert (bounds.low, bounds.high, bounds.kind) == (-1.0, 1.0, "range")
