"""Area under the ROC curve."""

from __future__ import annotations

import numpy as np

from services.scorer.statistics.estimate import Bools, Estimate, Floats, defined, undefined

ONE_CLASS = "only one class among the items"
NO_ITEMS = "no item has an answer"


def auroc(scores: Floats, actual: Bools) -> Estimate:
    """Chance that a truly active item scores above an inactive one, ties one half; shape
    [n] each. Undefined where one class is missing.

    Raises:
        ValueError: a score is not finite.
    """
    if not np.all(np.isfinite(scores)):
        raise ValueError("scores must be finite")
    if not scores.size:
        return undefined(NO_ITEMS)
    value = float(aurocs(scores, actual, np.ones((1, len(scores))))[0])
    return defined(value) if np.isfinite(value) else undefined(ONE_CLASS)


def aurocs(scores: Floats, actual: Bools, weights: Floats) -> Floats:
    """The same under each row of weights [r, n], weights of 0 allowed; NaN where a row
    gives no weight to one of the classes."""
    if not scores.size:
        return np.full(len(weights), np.nan)
    order = np.argsort(scores, kind="stable")
    begins = np.flatnonzero(np.append(True, np.diff(scores[order]) != 0))
    w = weights[:, order]
    positive = np.add.reduceat(w * actual[order], begins, axis=1)
    negative = np.add.reduceat(w * ~actual[order], begins, axis=1)
    below = np.cumsum(negative, axis=1) - negative
    wins = np.sum(positive * (below + negative / 2), axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        area: Floats = wins / (positive.sum(axis=1) * negative.sum(axis=1))
    return area
