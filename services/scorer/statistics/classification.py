"""Precision, recall, F1 and average precision of weighted items.

With weights 1 / (inclusion probability) the sums are Horvitz-Thompson estimates of
counts in the population, so that the ratios hold at natural prevalence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.scorer.statistics.estimate import (
    Bools,
    Estimate,
    Floats,
    check_weights,
    defined,
    undefined,
)

NO_POSITIVES = "no item is truly active"
NONE_PREDICTED = "no item is predicted active"


@dataclass(frozen=True)
class Confusion:
    """Weighted counts of the three cells that precision, recall and F1 need."""

    true_positive: float
    false_positive: float
    false_negative: float

    def precision(self) -> Estimate:
        """tp / (tp + fp). Undefined where nothing is predicted active."""
        predicted = self.true_positive + self.false_positive
        return defined(self.true_positive / predicted) if predicted else undefined(NONE_PREDICTED)

    def recall(self) -> Estimate:
        """tp / (tp + fn). Undefined where nothing is truly active."""
        actual = self.true_positive + self.false_negative
        return defined(self.true_positive / actual) if actual else undefined(NO_POSITIVES)

    def f1(self) -> Estimate:
        """2 tp / (2 tp + fp + fn). Undefined where nothing is truly active: F1 would be 0
        for any explanation that predicts something. 0 where nothing is predicted."""
        if not self.true_positive + self.false_negative:
            return undefined(NO_POSITIVES)
        errors = self.false_positive + self.false_negative
        return defined(2 * self.true_positive / (2 * self.true_positive + errors))


def confusion(predicted: Bools, actual: Bools, weights: Floats) -> Confusion:
    """Weighted confusion of items, all three of shape [n].

    Raises:
        ValueError: a weight is not finite and above 0.
    """
    check_weights(weights)
    return Confusion(*confusion_cells(predicted, actual, weights).sum(axis=0).tolist())


def confusion_cells(predicted: Bools, actual: Bools, weights: Floats) -> Floats:
    """Each item's share of the cells (tp, fp, fn), shape [n, 3]."""
    cells = np.stack([predicted & actual, predicted & ~actual, ~predicted & actual], axis=1)
    weighted: Floats = cells * weights[:, None]
    return weighted


def ratios_of_cells(cells: Floats) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and F1 of each row of summed cells [r, 3]; NaN where undefined."""
    tp, fp, fn = cells.T
    with np.errstate(divide="ignore", invalid="ignore"):
        f1 = np.where(tp + fn > 0, 2 * tp / (2 * tp + fp + fn), np.nan)
        return tp / (tp + fp), tp / (tp + fn), f1


def average_precision(scores: Floats, actual: Bools, weights: Floats) -> Estimate:
    """Area under the precision-recall curve as a step function, sum of (R_i - R_{i-1}) P_i
    over the distinct scores from high to low; ties enter together.

    Undefined where nothing is truly active.
    """
    check_weights(weights)
    if not np.any(actual):
        return undefined(NO_POSITIVES)
    return defined(float(average_precisions(scores, actual, weights[None, :])[0]))


def average_precisions(scores: Floats, actual: Bools, weights: Floats) -> Floats:
    """Average precision under each row of weights [r, n], weights of 0 allowed; NaN where
    the row gives no weight to an active item."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    w = weights[:, order]
    tp = np.cumsum(w * actual[order], axis=1)[:, ends]
    everything = np.cumsum(w, axis=1)[:, ends]
    gained = np.diff(tp, axis=1, prepend=0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(everything > 0, tp / everything, 0.0)
        area: Floats = np.sum(gained * precision, axis=1) / tp[:, -1]
    return area


def best_f1_threshold(scores: Floats, actual: Bools, weights: Floats) -> float | None:
    """The score at or above which calling items active gives the largest F1, the highest
    such one; None where nothing is truly active."""
    if not np.any(actual):
        return None
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    tp = np.cumsum(weights[order] * actual[order])[ends]
    f1 = 2 * tp / (np.cumsum(weights[order])[ends] + np.sum(weights[actual]))
    return float(scores[order][ends[int(np.argmax(f1))]])
