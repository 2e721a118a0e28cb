"""The pool: random windows for which the sweep keeps which features fire, and how strongly.

Near misses are drawn from it when the index is merged: only then the tokens that a feature peaks
on are known, and only of these windows that the feature stayed silent. Unlike the panel it is not
part of the index. Its size is bounded by the configuration, so its files are too: some 9 bytes for
every feature that fires in a window.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.activation.index.grid import bin_of
from services.activation.index.layout import Ints
from services.activation.index.plan import IndexPlan
from services.activation.index.records import Records
from services.activation.index.spool import group_starts

_HIT = np.dtype([("feature", "<u4"), ("place", "<u4"), ("bin", "u1")])


def block_size(feature_count: int) -> int:
    """Features whose records are merged together: bounds memory, not the result."""
    return min(64, max(8, -(-feature_count // 64)))


class PoolHits:
    """Writes the hits of one shard, a file per block of features."""

    def __init__(self, plan: IndexPlan, feature_count: int, folder: Path) -> None:
        self._windows = plan.pool_windows
        self._folder = folder
        self._block_size = block_size(feature_count)

    def add(self, records: Records) -> None:
        """Append the records of windows that belong to the pool."""
        pool = self._windows
        place = np.minimum(np.searchsorted(pool, records.window), max(0, len(pool) - 1))
        mine = np.flatnonzero(pool[place] == records.window)
        block = records.feature[mine] // self._block_size
        mine = mine[np.argsort(block, kind="stable")]
        hits = np.empty(len(mine), dtype=_HIT)
        hits["feature"], hits["place"] = records.feature[mine], place[mine]
        hits["bin"] = bin_of(records.maximum[mine])
        sorted_block = records.feature[mine] // self._block_size
        bounds = [*group_starts(sorted_block).tolist(), len(hits)]
        for begin, end in itertools.pairwise(bounds):
            with pool_file(self._folder, int(sorted_block[begin])).open("ab") as file:
                file.write(hits[begin:end].tobytes())


class PoolTable:
    """Hits of all shards by feature, on disk; built block by block."""

    def __init__(self, folders: Sequence[Path], feature_count: int, scratch: Path) -> None:
        counts = np.zeros(feature_count, np.int64)
        places, bins = scratch / "pool-places.bin", scratch / "pool-bins.bin"
        with places.open("wb") as place_file, bins.open("wb") as bin_file:
            for block in range(-(-feature_count // block_size(feature_count))):
                hits = _block_hits(folders, block)
                counts += np.bincount(hits["feature"], minlength=feature_count)
                place_file.write(hits["place"].tobytes())
                bin_file.write(hits["bin"].tobytes())
        self._offsets = np.concatenate([[0], np.cumsum(counts)])
        empty = int(self._offsets[-1]) == 0
        self._places = np.empty(0, "<u4") if empty else np.memmap(places, "<u4", "r")
        self._bins = np.empty(0, "u1") if empty else np.memmap(bins, "u1", "r")

    def places(self, feature: int, lowest_bin: int = 0) -> Ints:
        """Places in the pool of windows in which a feature fires, its maximum in ``lowest_bin``
        or above."""
        run = slice(int(self._offsets[feature]), int(self._offsets[feature + 1]))
        found: NDArray[np.int64] = self._places[run][self._bins[run] >= lowest_bin].astype(np.int64)
        return found


def pool_file(folder: Path, block: int) -> Path:
    """Where a shard keeps the hits of a block of features."""
    return folder / f"pool-{block:05}.bin"


def _block_hits(folders: Sequence[Path], block: int) -> NDArray[np.void]:
    paths = [pool_file(folder, block) for folder in folders]
    parts = [np.fromfile(path, dtype=_HIT) for path in paths if path.is_file()]
    hits = np.concatenate([np.empty(0, _HIT), *parts])
    return hits[np.lexsort((hits["place"], hits["feature"]))]
