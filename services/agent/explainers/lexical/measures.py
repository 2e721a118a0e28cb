"""How well rules do on the evidence, at natural prevalence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from saexplain.common.v1.pattern_pb2 import PatternRule
from services.agent.explainers.lexical.occurrences import Bools, Floats, Occurrences, predictions
from services.agent.explainers.lexical.weights import ACTIVE_SHARE


@dataclass(frozen=True)
class PartMeasure:
    """What one part finds among windows, by weight.

    Attributes:
        recall: share of the active windows that only this part predicts active.
        coverage: share of the active windows that it predicts active.
        precision: share of the windows it predicts active that are; None where it
            predicts none.
    """

    recall: float
    coverage: float
    precision: float | None


def part_measures(
    occurrences: Occurrences, parts: Sequence[Sequence[PatternRule]]
) -> list[PartMeasure]:
    """One measure per part; a window is predicted active where any token's predicted
    share reaches `ACTIVE_SHARE`."""
    weights = window_weights(occurrences)
    active = window_maxima(occurrences, occurrences.share) >= ACTIVE_SHARE
    called = np.stack(
        [window_maxima(occurrences, predictions(occurrences, p)) >= ACTIVE_SHARE for p in parts]
    )
    total = float(weights @ active)
    alone = called & (called.sum(axis=0) == 1)
    return [
        _measure(mine, only, active, weights, total)
        for mine, only in zip(called, alone, strict=True)
    ]


def _measure(
    called: Bools, alone: Bools, active: Bools, weights: Floats, total: float
) -> PartMeasure:
    predicted = float(weights @ called)
    return PartMeasure(
        recall=float(weights @ (alone & active)) / total if total > 0 else 0.0,
        coverage=float(weights @ (called & active)) / total if total > 0 else 0.0,
        precision=float(weights @ (called & active)) / predicted if predicted > 0 else None,
    )


def correlation(occurrences: Occurrences, predicted: Floats) -> float:
    """Weighted Pearson correlation of predicted and measured share over all rows; 0 where
    either is constant."""
    weights, share = occurrences.weight, occurrences.share
    total = weights.sum()
    if not total > 0:
        return 0.0
    x = predicted - weights @ predicted / total
    y = share - weights @ share / total
    scale = np.sqrt((weights @ x**2) * (weights @ y**2))
    return float(weights @ (x * y) / scale) if scale > 0 else 0.0


def window_maxima(occurrences: Occurrences, values: Floats) -> Floats:
    """The largest value in each window, shape [stretches]."""
    maxima = np.zeros(len(occurrences.stretches))
    np.maximum.at(maxima, occurrences.stretch, values)
    return maxima


def window_weights(occurrences: Occurrences) -> Floats:
    """The weight of each window: the largest of its tokens'."""
    return window_maxima(occurrences, occurrences.weight)
