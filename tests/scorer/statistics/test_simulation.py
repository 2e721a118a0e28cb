"""Intervals of the centred scores: mean and median move with every resample. Weighting the
tokens has to give what repeating them gives; a median of counts is off by one easily."""

from __future__ import annotations

import numpy as np
import pytest

from services.scorer.statistics.intervals import ClusterBootstrap
from services.scorer.statistics.published import transluce
from services.scorer.statistics.simulation import Simulations, simulation_scores

SEED = 7


def _simulations(documents: int) -> Simulations:
    rng = np.random.default_rng(3)
    measured = [np.maximum(rng.normal(size=7) - 0.5, 0) for _ in range(2 * documents)]
    predicted = [m + 0.3 * rng.random(7) for m in measured]
    return Simulations(predicted, measured, [f"d{i // 2}" for i in range(2 * documents)])


@pytest.mark.parametrize("documents", [3, 8])
@pytest.mark.parametrize(
    ("metric", "score"),
    [("r2_transluce", transluce.transluce_r2), ("d2_transluce", transluce.transluce_d2)],
)
def test_weighted_resamples_score_like_repeated_tokens(documents, metric, score) -> None:
    simulated = _simulations(documents)
    line = np.concatenate(transluce.transluce_calibrated(simulated.predicted, simulated.measured))
    measured = np.concatenate(simulated.measured)
    tokens = [d for d in simulated.documents for _ in range(7)]
    repeated = []
    for counts in ClusterBootstrap(tokens, SEED).weights(np.ones(len(tokens))).astype(int):
        places = np.repeat(np.arange(len(tokens)), counts)
        repeated.append(score(line[places], measured[places]).value)
    interval = simulation_scores(simulated, simulated, SEED)[metric].interval
    assert [interval.low, interval.high] == pytest.approx(np.quantile(repeated, [0.025, 0.975]))
