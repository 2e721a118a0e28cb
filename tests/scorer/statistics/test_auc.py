"""Area under the ROC curve, against the definition and under resampled weights."""

from __future__ import annotations

import numpy as np
import pytest

from services.scorer.statistics.auc import auroc, aurocs


def by_pairs(scores: np.ndarray, actual: np.ndarray, weights: np.ndarray) -> float:
    """The definition: every active item against every inactive one, ties one half."""
    won = total = 0.0
    for i in np.flatnonzero(actual):
        for j in np.flatnonzero(~actual):
            pair = weights[i] * weights[j]
            won += pair * (float(scores[i] > scores[j]) + 0.5 * float(scores[i] == scores[j]))
            total += pair
    return won / total


@pytest.mark.parametrize("seed", range(10))
def test_it_is_the_share_of_pairs_ordered_rightly_under_any_weights(seed):
    """Guards against ties that count in one direction, and weights of one side only."""
    rng = np.random.default_rng(seed)
    scores, actual = rng.integers(0, 5, 14).astype(float), np.arange(14) % 3 == 0
    weights = rng.integers(0, 3, (4, 14)).astype(float)
    weights[:, [0, 1]] = 1.0
    assert auroc(scores, actual).value == pytest.approx(by_pairs(scores, actual, np.ones(14)))
    expected = [by_pairs(scores, actual, w) for w in weights]
    assert aurocs(scores, actual, weights) == pytest.approx(np.array(expected))


def test_one_class_or_nothing_is_undefined_and_nan_refused():
    """Guards against 0.5 for what was never compared."""
    assert auroc(np.ones(3), np.ones(3, bool)).value is None
    assert auroc(np.zeros(0), np.zeros(0, bool)).value is None
    assert np.isnan(aurocs(np.ones(2), np.array([True, False]), np.array([[1.0, 0.0]]))[0])
    with pytest.raises(ValueError, match="finite"):
        auroc(np.array([1.0, np.nan]), np.array([True, False]))
