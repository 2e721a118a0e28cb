"""Which contexts are alike: Jaccard similarity of their shingles, compared on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.activation.index.config import IndexConfig
from services.activation.index.hashing import mix
from services.activation.index.layout import Ints, Layout
from services.activation.index.ngrams import context_shingles
from services.activation.index.spool import Spool, blocks, distinct, group_starts

WIDEST_SHINGLE = 200
"""Shingles in more contexts are not compared pairwise: pairs grow with the square."""
_PAIRS_AT_ONCE = 2**17


class Shingles:
    """Distinct (context, shingle) pairs of a corpus, on disk."""

    def __init__(self, spool: Spool, context_source: Ints, scratch: Path) -> None:
        self._spool = spool
        self._context_source = context_source
        self._scratch = scratch
        self.uncompared_count = 0
        """Shingles in more than ``WIDEST_SHINGLE`` contexts."""

    @staticmethod
    def find(layout: Layout, document_source: Ints, config: IndexConfig, scratch: Path) -> Shingles:
        """Write the shingles of every context into ``scratch``."""
        spool = Spool(scratch / "all", len(layout.tokens), {"context": "<u4"})
        for hashes, contexts in context_shingles(layout, config.shingle_ngram):
            spool.add(hashes, context=contexts)
        return Shingles(spool, document_source[layout.context_document], scratch)

    def edges(self, widest: int, jaccard: float) -> tuple[Ints, Ints]:
        """Pairs of sources with two contexts that are alike, by shingles in at most ``widest``
        sources (0: all)."""
        sizes = np.zeros(len(self._context_source), np.int64)
        columns = {"left": "<u4", "right": "<u4", "common": "<u4"}
        # Pairs are as many as repeated text makes them; that is small against the corpus.
        common = Spool(self._scratch / f"pairs-{widest}", len(sizes), columns)
        self.uncompared_count = 0
        for part in self._spool.parts():
            context, group_sizes = self._counted(part, widest, sizes)
            for left, right in self._pairs(context, group_sizes):
                keys, places, counts = np.unique(
                    left * len(sizes) + right, return_index=True, return_counts=True
                )
                common.add(mix(keys), left=left[places], right=right[places], common=counts)
        return self._alike(common, sizes, jaccard)

    def _counted(self, part: NDArray[Any], widest: int, sizes: Ints) -> tuple[Ints, Ints]:
        """Contexts of the shingles that are compared, and how many each shingle has; adds the
        shingles that count to ``sizes``."""
        pairs = distinct(part, "context")
        starts = group_starts(pairs["hash"])
        spread = np.diff(np.concatenate([starts, [len(pairs)]]))
        context = pairs["context"].astype(np.int64)
        self.uncompared_count += int((spread > WIDEST_SHINGLE).sum())
        counted = np.ones(len(spread), dtype=bool)
        if widest:
            group = np.repeat(np.arange(len(spread)), spread)
            several = np.unique(np.stack([group, self._context_source[context]]), axis=1)
            counted = np.bincount(several[0], minlength=len(spread)) <= widest
        sizes += np.bincount(context[np.repeat(counted, spread)], minlength=len(sizes))
        compared = counted & (spread > 1) & (spread <= WIDEST_SHINGLE)
        return context[np.repeat(compared, spread)], spread[compared]

    def _pairs(self, context: Ints, group_sizes: Ints) -> Iterator[tuple[Ints, Ints]]:
        """Pairs of contexts of different sources in one group, lower number left."""
        starts = np.cumsum(group_sizes) - group_sizes
        for size in np.unique(group_sizes).tolist():
            first = starts[group_sizes == size]
            left, right = np.triu_indices(size, k=1)
            for block in blocks(len(first), max(1, _PAIRS_AT_ONCE // len(left))):
                begin = first[block.start : block.stop, None]
                lefts = context[begin + left].ravel()
                rights = context[begin + right].ravel()
                kept = self._context_source[lefts] != self._context_source[rights]
                yield lefts[kept], rights[kept]

    def _alike(self, common: Spool, sizes: Ints, jaccard: float) -> tuple[Ints, Ints]:
        found = np.empty((0, 2), np.int64)
        for part in common.parts():
            starts = group_starts(part["hash"])
            left = part["left"][starts].astype(np.int64)
            right = part["right"][starts].astype(np.int64)
            shared = np.add.reduceat(part["common"].astype(np.int64), starts)
            close = shared >= jaccard * (sizes[left] + sizes[right] - shared)
            sources = np.stack([left[close], right[close]], axis=1)
            found = np.unique(np.concatenate([found, self._context_source[sources]]), axis=0)
        return found[:, 0], found[:, 1]
