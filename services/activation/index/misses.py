"""Near misses: windows that look as if a feature should fire in them, and in which it is silent.

Three rungs of the ladder of negatives, drawn from the pool; a window stands on the first that it
fits. Windows of a rung are taken in order of a hash, so that their share of the rung is known.

- SAME_TOKEN: holds a token at which the feature peaks in its exemplars.
- NEIGHBOR: a decoder neighbour is active in it (at half of its own reference maximum or above,
  up to the width of a bin), and no peak token stands in it.
- LEXICAL: shares at least two words of context with the exemplars (tokens that stand in several
  of them and in few windows of the pool), but neither of the above.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from services.activation.index.config import SPLIT_COUNT, IndexConfig
from services.activation.index.grid import bin_of
from services.activation.index.hashing import priorities
from services.activation.index.layout import Ints, Layout
from services.activation.index.records import Floats
from services.activation.index.spool import blocks, group_starts

NEIGHBOR_COUNT = 5
NEIGHBOR_COSINE = 0.1
"""Decoders that are less alike are no neighbours."""
Places = NDArray[np.signedinteger[Any]]
"""Places in the pool, in four bytes each."""
_SALT = 0x6D697373
_BLOCK_WINDOWS = 2**12
_CUES = 16
"""Tokens of context that a feature's exemplars are recognised by."""
_SHARED_CUES = 2
_WIDEST_CUE = 0.05
"""Tokens in a greater share of the pool say nothing."""


class Rung(enum.IntEnum):
    """How near a silent window comes; the number is stored."""

    LEXICAL = 1
    NEIGHBOR = 2
    SAME_TOKEN = 3


@dataclass(frozen=True)
class Misses:
    """Near misses of one feature."""

    window: Ints
    """Kept windows, by rung, then by number."""
    rung: NDArray[np.uint8]
    counts: Ints
    """[splits, rungs] windows of the pool that fit each rung."""


@dataclass(frozen=True)
class Portrait:
    """What exemplars of a feature look like."""

    peak_tokens: Ints
    """Tokens at which it peaks."""
    cues: Ints
    """Tokens that surround the peaks."""


class Hits(Protocol):
    """Which features fire in which windows of a pool."""

    def places(self, feature: int, lowest_bin: int = 0) -> Ints:
        """Places in the pool of windows in which a feature fires, its maximum in ``lowest_bin``
        or above."""
        ...


class MissFinder:
    """Looks through the pool for one feature after the other.

    Args:
        windows: The pool, ascending.
        split: [pool] split of each window.
        hits: Which features fire where.
        reference: [features] reference maxima.
    """

    def __init__(
        self,
        layout: Layout,
        windows: Ints,
        split: NDArray[np.uint8],
        hits: Hits,
        reference: Floats,
        config: IndexConfig,
    ) -> None:
        self._windows, self._split, self._hits = windows, split.astype(np.int64), hits
        self._strong = bin_of(np.float32(0.5) * reference)
        self._config = config
        self._kept = np.asarray(config.miss_counts)
        self._tokens, self._places, self._bounds = _inverted(layout, windows)

    def portrait(self, layout: Layout, windows: Ints, peaks: Ints) -> Portrait:
        """From exemplars: their windows, and the places of their peaks in the corpus."""
        peak_tokens = np.unique(layout.tokens[peaks]).astype(np.int64)
        words = [
            np.unique(layout.tokens[start : start + length])
            for start, length in zip(
                layout.window_start[windows], layout.window_length[windows], strict=True
            )
        ]
        flat = np.concatenate([np.empty(0, np.int64), *words]).astype(np.int64)
        tokens, shown = np.unique(flat, return_counts=True)
        spread = self._spread(tokens)
        telling = (shown > 1) & (spread <= _WIDEST_CUE * len(self._windows))
        telling &= ~np.isin(tokens, peak_tokens)
        tokens, shown, spread = tokens[telling], shown[telling], spread[telling]
        order = np.lexsort((tokens, -shown * np.log(len(self._windows) / (1 + spread))))
        return Portrait(peak_tokens, np.sort(tokens[order[:_CUES]]))

    def find(self, feature: int, portrait: Portrait, neighbors: Ints) -> Misses:
        """Near misses of one feature; ``neighbors`` are features its decoder is close to."""
        size = len(self._windows)
        rung = np.zeros(size, np.uint8)
        cues = np.zeros(size, np.int64)
        for token in portrait.cues.tolist():
            cues[self._windows_with(token)] += 1
        rung[cues >= _SHARED_CUES] = Rung.LEXICAL
        for other in neighbors.tolist():
            rung[self._hits.places(other, int(self._strong[other]))] = Rung.NEIGHBOR
        for token in portrait.peak_tokens.tolist():
            rung[self._windows_with(token)] = Rung.SAME_TOKEN
        rung[self._hits.places(feature)] = 0
        return self._drawn(feature, rung)

    def _drawn(self, feature: int, rung: NDArray[np.uint8]) -> Misses:
        places = np.flatnonzero(rung)
        group = self._split[places] * len(Rung) + rung[places] - 1
        features = np.full(len(places), feature)
        hashes = priorities(self._config.seed ^ _SALT, self._windows[places], features)
        order = np.lexsort((hashes, group))
        counts = np.bincount(group, minlength=SPLIT_COUNT * len(Rung))
        within = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        chosen = places[order][within < self._kept[self._split[places[order]]]]
        chosen = chosen[np.lexsort((chosen, rung[chosen]))]
        return Misses(self._windows[chosen], rung[chosen], counts.reshape(SPLIT_COUNT, -1))

    def _windows_with(self, token: int) -> Places:
        """Places in the pool of windows that hold a token."""
        at = int(np.searchsorted(self._tokens, token))
        if at == len(self._tokens) or int(self._tokens[at]) != token:
            return np.empty(0, np.int32)
        return self._places[self._bounds[at] : self._bounds[at + 1]]

    def _spread(self, tokens: Ints) -> Ints:
        at = np.minimum(np.searchsorted(self._tokens, tokens), max(0, len(self._tokens) - 1))
        if len(self._tokens) == 0:
            return np.zeros(len(tokens), np.int64)
        found = self._tokens[at] == tokens
        spread: Ints = np.where(found, self._bounds[at + 1] - self._bounds[at], 0)
        return spread


def nearest(cosines: NDArray[np.float32], feature: int) -> Ints:
    """Decoder neighbours of a feature, from [features] cosines with its decoder row."""
    cosines = cosines.copy()
    cosines[feature] = -1.0
    order = np.argsort(-cosines, kind="stable")[:NEIGHBOR_COUNT]
    found: Ints = order[cosines[order] > NEIGHBOR_COSINE]
    return found


def _inverted(layout: Layout, windows: Ints) -> tuple[Ints, Places, Ints]:
    """Tokens of some windows, ascending; places in ``windows`` that hold them; bounds of these."""
    parts = [np.empty(0, np.int64)]
    for block in blocks(len(windows), _BLOCK_WINDOWS):
        mine = windows[block.start : block.stop]
        length = layout.window_length[mine]
        place = np.repeat(np.arange(len(mine)), length)
        within = np.arange(len(place)) - np.repeat(np.cumsum(length) - length, length)
        token = np.asarray(layout.tokens[layout.window_start[mine][place] + within], np.int64)
        parts.append(np.unique(token << 32 | (place + block.start)))
    pairs = np.concatenate(parts)
    pairs.sort()
    places: Places = np.asarray(pairs & 0xFFFF_FFFF, dtype=np.int32)
    pairs >>= 32
    starts = group_starts(pairs)
    bounds = np.concatenate([starts, [len(places)]]).astype(np.int64)
    return pairs[starts], places, bounds
