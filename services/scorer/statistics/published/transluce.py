"""Transluce's observatory: simulation with centred baselines and calibration on the data
that it scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from services.scorer.statistics.correlation import fit_line
from services.scorer.statistics.estimate import Estimate, Floats, defined, undefined

_FEW = "fewer than two values"


def transluce_expected_value(logits: Floats) -> tuple[Floats, float]:
    """Distribution over 0 to 10, shape [11], and its mean. The maximum is subtracted
    first: the implementation does not, and gives NaN where exp overflows or all underflow.
    """
    weights = np.exp(logits - logits.max())
    distribution: Floats = weights / weights.sum()
    return distribution, float(distribution @ np.arange(11))


def transluce_r2(predicted: Floats, actual: Floats) -> Estimate:
    """1 - sum (t - p)^2 / sum (t - mean t)^2; a constant truth gives 1 if it is met exactly
    and else 0. OpenAI's field of the same name has no mean in it."""
    return _explained(
        (actual - predicted) ** 2, (actual - np.mean(actual)) ** 2 if actual.size else actual
    )


def transluce_d2(predicted: Floats, actual: Floats) -> Estimate:
    """1 - sum |t - p| / sum |t - median t|, with the same convention."""
    centre = np.median(actual) if actual.size else 0.0
    return _explained(np.abs(actual - predicted), np.abs(actual - centre))


def _explained(errors: Floats, baseline: Floats) -> Estimate:
    if errors.size < 2:
        return undefined(_FEW)
    error, total = float(errors.sum()), float(baseline.sum())
    if total == 0:
        return defined(0.0 if error else 1.0)
    return defined(1 - error / total)


def transluce_truth(activations: Floats, exemplar_type: str) -> Floats:
    """relu(a) for explanations of `max` exemplars, relu(-a) for `min`."""
    signed = activations if exemplar_type == "max" else -activations
    truth: Floats = np.maximum(signed, 0.0)
    return truth


def transluce_calibrated(predicted: Sequence[Floats], actual: Sequence[Floats]) -> list[Floats]:
    """Predictions on the line that fits the very sequences that are scored: their pooled
    correlation becomes its magnitude and R2 its square.

    Raises:
        ValueError: there is nothing to fit on.
    """
    slope, intercept = fit_line(np.concatenate(predicted), np.concatenate(actual))
    return [slope * p + intercept for p in predicted]
