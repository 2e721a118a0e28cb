"""Gini and average precision of weighted samples."""

from __future__ import annotations

import numpy as np
import pytest

from services.scorer.statistics import separation
from services.scorer.statistics.intervals import ClusterBootstrap
from services.scorer.statistics.published.fade import fade_separation
from tests.parity.vectors import cases


@pytest.mark.parametrize(("case", "tolerance"), cases("fade_clarity"))
def test_folded_numbers_are_the_published_ones_on_unit_weights(case, tolerance):
    """Guards against two formulas of one name in the service: what the methods report is
    what the parity cases hold."""
    natural, synthetic = (np.array(case["inputs"][k], float) for k in ("natural", "synthetic"))
    values = np.concatenate([natural, synthetic])
    concept = np.repeat([False, True], [natural.size, synthetic.size])
    ones = np.ones_like(values)
    wanted = fade_separation(values, concept)
    for name, published in zip(("folded_gini", "folded_precision"), wanted, strict=True):
        ours = separation.separate(getattr(separation, name), values, concept, ones, None)
        if published.value is None:
            assert ours.value is None and ours.reason
        else:
            assert ours.value == pytest.approx(published.value, abs=1e-12)


def test_weights_are_repetitions():
    """Guards against samples that count once where they stand for many."""
    values, concept = np.array([3.0, 2.0, 1.0, 2.0]), np.array([True, False, False, True])
    weights = np.array([1.0, 3.0, 2.0, 1.0])
    times = weights.astype(int)
    for measure in separation.RANGES:
        repeated = np.repeat(values, times), np.repeat(concept, times), np.ones(times.sum())
        weighted = separation.separate(measure, values, concept, weights, None).value
        assert weighted == pytest.approx(separation.separate(measure, *repeated, None).value)


def test_what_the_concept_suppresses_is_told_from_what_it_excites():
    """Guards against a fold in the numbers that are not named after it."""
    values, concept = np.array([0.0, 1.0, 2.0, 3.0]), np.array([True, True, False, False])
    bootstrap = ClusterBootstrap(list("abcd"), seed=1)
    found = {
        m.__name__: separation.separate(m, values, concept, np.ones(4), bootstrap)
        for m in separation.RANGES
    }
    assert found["gini"].value == -1 and found["folded_gini"].value == 1
    assert found["precision"].value == pytest.approx(5 / 12)
    assert found["folded_precision"].value == 1
    for estimate in found.values():
        assert estimate.interval.low <= estimate.value <= estimate.interval.high
