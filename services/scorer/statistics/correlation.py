"""Pearson's correlation, weighted and not, and the other two simulation scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from services.scorer.statistics.estimate import (
    Estimate,
    Floats,
    check_weights,
    defined,
    is_constant,
    undefined,
)

_NOISE = 1e-12
"""A variance below this share of the raw second moment is rounding, not spread."""


def pearson(predicted: Floats, actual: Floats, weights: Floats | None = None) -> Estimate:
    """Pearson's r of two lists of equal length, each pair counted `weights` times.

    Undefined for fewer than two pairs, a constant side, and a side whose spread is lost
    in rounding.

    Raises:
        ValueError: lengths differ, a value is not finite, a weight is not above 0.
    """
    x, y = np.asarray(predicted, np.float64), np.asarray(actual, np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"shapes {x.shape} and {y.shape} differ")
    if not (np.all(np.isfinite(x)) and np.all(np.isfinite(y))):
        raise ValueError("values must be finite")
    w = np.ones_like(x) if weights is None else np.asarray(weights, np.float64)
    check_weights(w)
    if x.size < 2:
        return undefined("fewer than two values")
    for name, side in (("predictions", x), ("measured values", y)):
        if is_constant(side):
            return undefined(f"the {name} are constant")
    # Scaled by the largest magnitude first: squares of tiny values would underflow.
    x, y = x / np.abs(x).max(), y / np.abs(y).max()
    dx, dy = x - np.average(x, weights=w), y - np.average(y, weights=w)
    spread = np.sqrt(np.sum(w * dx * dx)) * np.sqrt(np.sum(w * dy * dy))
    if not spread > 0:
        return undefined("the spread is lost in rounding")
    return defined(float(np.clip(np.sum(w * dx * dy) / spread, -1.0, 1.0)))


def mean_per_example(predicted: Sequence[Floats], actual: Sequence[Floats]) -> Estimate:
    """Mean of Pearson's r per example over the examples that have one (SAGE's paper)."""
    rs = per_example(predicted, actual)
    if not rs:
        return undefined("no example has a correlation")
    return defined(float(np.mean(rs)))


def per_example(predicted: Sequence[Floats], actual: Sequence[Floats]) -> list[float]:
    """Pearson's r of every example that has one, in order."""
    each = (pearson(p, a).value for p, a in zip(predicted, actual, strict=True))
    return [r for r in each if r is not None]


def pearson_sums(predicted: Floats, actual: Floats, weights: Floats) -> Floats:
    """Weighted moments [n, 6] (1, x, y, xx, yy, xy) of every pair around the common
    mean; summed over any subset they give its correlation with `pearson_of_sums`."""
    x = predicted - np.average(predicted, weights=weights)
    y = actual - np.average(actual, weights=weights)
    ones = np.ones_like(x)
    return np.stack([ones, x, y, x * x, y * y, x * y], axis=1) * weights[:, None]


def pearson_of_sums(sums: Floats) -> Floats:
    """Correlation of each row of summed moments [r, 6]; NaN where there is none.

    For bootstrap replicates only, which drop the NaN.
    """
    n, x, y, xx, yy, xy = sums.T
    with np.errstate(divide="ignore", invalid="ignore"):
        vx, vy = xx - x * x / n, yy - y * y / n
        r = (xy - x * y / n) / np.sqrt(vx * vy)
    r[~((vx > _NOISE * xx) & (vy > _NOISE * yy))] = np.nan
    clipped: Floats = np.clip(r, -1.0, 1.0)
    return clipped


def uncentred_r2(predicted: Floats, actual: Floats) -> Estimate:
    """1 - mean((t - p)^2) / mean(t^2): the baseline predicts 0 everywhere (OpenAI)."""
    if actual.size == 0 or not np.any(actual):
        return undefined("nothing activates")
    return defined(1.0 - float(np.mean((actual - predicted) ** 2) / np.mean(actual**2)))


def absolute_deviation_explained(predicted: Floats, actual: Floats) -> Estimate:
    """1 - mean(|t - p|) / mean(|t|): the baseline predicts 0 everywhere (OpenAI)."""
    if actual.size == 0 or not np.any(actual):
        return undefined("nothing activates")
    return defined(1.0 - float(np.mean(np.abs(actual - predicted)) / np.mean(np.abs(actual))))


def fit_line(predicted: Floats, actual: Floats) -> tuple[float, float]:
    """Slope and intercept of least squares `actual ~ slope * predicted + intercept`.

    A constant prediction gives slope 0 and the mean (OpenAI's calibration).

    Raises:
        ValueError: there is nothing to fit on.
    """
    if predicted.size == 0:
        raise ValueError("no values to fit a line on")
    mean = float(np.mean(actual))
    if is_constant(predicted):
        return 0.0, mean
    centred = predicted - np.mean(predicted)
    slope = float(np.sum(centred * (actual - mean)) / np.sum(centred * centred))
    return slope, mean - slope * float(np.mean(predicted))
