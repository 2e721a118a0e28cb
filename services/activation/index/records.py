"""Records of one feature in one window: what a sweep collects, sorts and keeps.

A table of (feature, window) rows; each row owns the tokens of the window at which the feature is
above zero. Rows of unequal length lie one after the other (``offsets`` bounds them).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.activation.encoder.rows import SparseRow
from services.activation.index.layout import Ints, Layout

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Records:
    """[rows] features, windows, maxima; [entries] places in the window and values."""

    feature: Ints
    window: Ints
    maximum: Floats
    """Largest activation in the window, above zero."""
    peak: NDArray[np.uint8]
    """Place of the first token that reaches it, counted within the window."""
    offsets: Ints
    """[rows + 1] bounds of each row's entries."""
    position: NDArray[np.uint8]
    """Place of a token within its window; ascending in a row."""
    value: Floats
    """Activation there, above zero."""

    def __len__(self) -> int:
        return len(self.feature)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Records:
        """Chosen rows, in the order given (or under a mask, in their own)."""
        index = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows.astype(np.int64)
        lengths = np.diff(self.offsets)[index]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        entries = np.repeat(self.offsets[:-1][index] - offsets[:-1], lengths)
        entries = entries + np.arange(offsets[-1])
        return Records(
            feature=self.feature[index],
            window=self.window[index],
            maximum=self.maximum[index],
            peak=self.peak[index],
            offsets=offsets,
            position=self.position[entries],
            value=self.value[entries],
        )

    @staticmethod
    def empty() -> Records:
        """No rows."""
        none, small = np.empty(0, np.int64), np.empty(0, np.uint8)
        floats = np.empty(0, np.float32)
        return Records(none, none, floats, small, np.zeros(1, np.int64), small, floats)

    @staticmethod
    def join(parts: Sequence[Records]) -> Records:
        """Rows of all parts, one after the other."""
        lengths = np.concatenate([np.diff(part.offsets) for part in parts])
        return Records(
            feature=np.concatenate([part.feature for part in parts]),
            window=np.concatenate([part.window for part in parts]),
            maximum=np.concatenate([part.maximum for part in parts]),
            peak=np.concatenate([part.peak for part in parts]),
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            position=np.concatenate([part.position for part in parts]),
            value=np.concatenate([part.value for part in parts]),
        )


def collect(
    layout: Layout, contexts: Sequence[int], rows: Sequence[SparseRow], window_token_count: int
) -> Records:
    """Records of encoded contexts, by window, then by feature.

    Args:
        layout: Where the contexts lie.
        contexts: Numbers of the contexts.
        rows: Their activations; token 0 is the first token that was put in front.
        window_token_count: Tokens of a whole window.
    """
    lengths = [len(row.features) for row in rows]
    context = np.repeat(np.asarray(contexts, dtype=np.int64), lengths)
    token = np.concatenate(
        [np.repeat(np.arange(len(row.indptr) - 1), np.diff(row.indptr)) for row in rows]
    )
    feature = np.concatenate([row.features for row in rows]).astype(np.int64)
    value = np.concatenate([row.values for row in rows]).astype(np.float32)
    tile, position = np.divmod(token - 1, window_token_count)
    window = layout.context_window_offsets[context] + tile
    kept = window < layout.context_window_offsets[context + 1]
    return _group(feature[kept], window[kept], position[kept].astype(np.uint8), value[kept])


def _group(feature: Ints, window: Ints, position: NDArray[np.uint8], value: Floats) -> Records:
    if len(feature) == 0:
        return Records.empty()
    order = np.lexsort((position, feature, window))
    feature, window = feature[order], window[order]
    position, value = position[order], value[order]
    new = (feature[1:] != feature[:-1]) | (window[1:] != window[:-1])
    starts = np.concatenate([[0], np.flatnonzero(new) + 1])
    offsets = np.concatenate([starts, [len(feature)]]).astype(np.int64)
    maximum = np.maximum.reduceat(value, starts)
    at_peak = np.flatnonzero(value == np.repeat(maximum, np.diff(offsets)))
    row_of_peak = np.searchsorted(starts, at_peak, side="right") - 1
    _, first = np.unique(row_of_peak, return_index=True)
    return Records(
        feature=feature[starts],
        window=window[starts],
        maximum=maximum,
        peak=position[at_peak[first]],
        offsets=offsets,
        position=position,
        value=value,
    )
