"""The logarithmic grid of activation bins: absolute, so that parts of an index merge exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BINS_PER_OCTAVE = 2
_LOWEST_EXPONENT, _HIGHEST_EXPONENT = -12, 16

BIN_COUNT = (_HIGHEST_EXPONENT - _LOWEST_EXPONENT) * BINS_PER_OCTAVE
"""Bins of the grid; the first also takes what lies below it, the last what lies above."""

EDGES: NDArray[np.float32] = np.exp2(
    np.arange(BIN_COUNT + 1) / BINS_PER_OCTAVE + _LOWEST_EXPONENT
).astype(np.float32)
"""[BIN_COUNT + 1] bounds; bin b holds values in [EDGES[b], EDGES[b + 1])."""


def bin_of(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Bin of each value above zero."""
    bins: NDArray[np.int64] = np.searchsorted(EDGES, values, side="right") - 1
    return np.clip(bins, 0, BIN_COUNT - 1)


def quantile(counts: NDArray[np.integer], probability: float, largest: float) -> float:
    """A quantile of binned values, interpolated on the logarithm within its bin.

    Args:
        counts: [BIN_COUNT] values per bin.
        probability: In (0, 1).
        largest: The largest value; bounds the answer.

    Returns 0 where there is no value. Off by less than half an octave.
    """
    total = int(counts.sum())
    if total == 0:
        return 0.0
    target = probability * total
    cumulated = np.cumsum(counts)
    place = int(np.searchsorted(cumulated, target))
    share = float((target - (cumulated[place] - counts[place])) / counts[place])
    low, high = float(EDGES[place]), float(EDGES[place + 1])
    value: float = low * (high / low) ** share
    return min(largest, value)
