"""Activations on the 0-10 scale, and the thresholds that call a text active."""

from __future__ import annotations

import numpy as np

from services.scorer.statistics.estimate import Floats, Ints

TOP_EXEMPLARS = 10
"""Exemplars that thresholds are taken from (SAGE)."""


def sage_scale(values: Floats, strongest: float | None) -> Floats:
    """10 a / M, M the strongest exemplar's maximum; neither clipped nor rounded.

    Without a positive M the text's own maximum is used; all 0 if that is not positive.
    """
    own = float(values.max()) if values.size else 0.0
    unit = strongest if strongest is not None and strongest > 0 else own
    return 10 * values / unit if unit > 0 else np.zeros_like(values)


def floor_scale(values: Floats, maximum: float) -> Ints:
    """min(10, floor(10 relu(a) / maximum)) as integers; 0 if `maximum` <= 0 (OpenAI)."""
    if maximum <= 0:
        return np.zeros(values.shape, np.int64)
    return np.minimum(10, np.floor(10 * np.maximum(values, 0) / maximum)).astype(np.int64)


def threshold_of_max(exemplar_maxima: Floats) -> float:
    """Half of the strongest exemplar's maximum: tau of SAGE's paper.

    Raises:
        ValueError: there is no exemplar.
    """
    return 0.5 * float(_top(exemplar_maxima).max())


def threshold_of_mean(exemplar_maxima: Floats) -> float:
    """Half of the mean of the ten strongest maxima: tau of SAGE's code.

    Raises:
        ValueError: there is no exemplar.
    """
    return 0.5 * float(_top(exemplar_maxima).mean())


def _top(exemplar_maxima: Floats) -> Floats:
    if exemplar_maxima.size == 0:
        raise ValueError("no exemplar to take a threshold from")
    return np.sort(exemplar_maxima)[::-1][:TOP_EXEMPLARS]
