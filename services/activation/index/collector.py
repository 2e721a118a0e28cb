"""Collecting records while a shard is swept, in memory that does not grow with it.

What can no longer be selected is dropped at once: an exemplar below the weakest of a full list, a
sample whose hash is above those of a full bin. The rest waits and is selected again when it has
grown as large as what was kept, so that every record is sorted about twice.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.activation.index.config import EXCLUDED, SPLIT_COUNT, Split
from services.activation.index.grid import BIN_COUNT, bin_of
from services.activation.index.layout import Ints
from services.activation.index.partial import DocumentMaxima, Partial
from services.activation.index.plan import IndexPlan
from services.activation.index.pool import PoolHits
from services.activation.index.records import Records
from services.activation.index.selection import (
    sample_groups,
    sample_priorities,
    select_samples,
    select_top,
    split_of,
)
from services.activation.index.spool import group_starts

_ROWS_PER_FOLD = 100_000
_NEVER = np.uint64(2**64 - 1)


class Collector:
    """What some chunks contribute, record by record.

    Args:
        plan: The plan.
        feature_count: Features of the SAE.
        folder: Where hits of the pool are written.
        rows_per_fold: Rows that wait at least before they are selected.
    """

    def __init__(
        self,
        plan: IndexPlan,
        feature_count: int,
        folder: Path,
        rows_per_fold: int = _ROWS_PER_FOLD,
    ) -> None:
        self._rows_per_fold = rows_per_fold
        self._plan, self._features = plan, feature_count
        self._cells = SPLIT_COUNT * feature_count * BIN_COUNT
        self._token_histogram = np.zeros(self._cells, np.int64)
        self._window_histogram = np.zeros(self._cells, np.int64)
        self._reference = np.zeros(feature_count, np.float32)
        self._top_floor = np.zeros(feature_count * SPLIT_COUNT, np.float32)
        self._sample_ceiling = np.full(self._cells, _NEVER)
        self._top, self._samples = [Records.empty()], [Records.empty()]
        self._documents = [DocumentMaxima.empty()]
        self._panel_hits: list[Ints] = [np.empty(0, np.int64)]
        self._waiting = 0
        self._pool = PoolHits(plan, feature_count, folder)

    def add(self, records: Records) -> None:
        """Take some records; those of excluded windows do not count."""
        records = records.take(self._plan.window_split[records.window] != EXCLUDED)
        if len(records) == 0:
            return
        split = split_of(records, self._plan.window_split)
        self._count(records, split)
        self._keep_top(records, split)
        self._keep_samples(records, split)
        self._keep_documents(records)
        self._panel_hits.append(self._hits(records))
        self._pool.add(records)
        kept = len(self._top[0]) + len(self._samples[0]) + len(self._documents[0].feature)
        if self._waiting >= max(self._rows_per_fold, kept):
            self._fold()

    def result(self, chunks: list[int]) -> Partial:
        """All of it, as the contribution of ``chunks``."""
        self._fold()
        shape = (SPLIT_COUNT, self._features, BIN_COUNT)
        return Partial(
            key=self._plan.key,
            chunks=np.array(sorted(chunks), dtype=np.int64),
            feature_count=self._features,
            token_histogram=self._token_histogram.reshape(shape),
            window_histogram=self._window_histogram.reshape(shape),
            top=self._top[0],
            samples=self._samples[0],
            documents=self._documents[0],
            panel_hits=np.unique(np.concatenate(self._panel_hits)),
            reference=self._reference,
        )

    def _count(self, records: Records, split: Ints) -> None:
        group = split * self._features + records.feature
        windows = group * BIN_COUNT + bin_of(records.maximum)
        tokens = np.repeat(group, np.diff(records.offsets)) * BIN_COUNT + bin_of(records.value)
        self._window_histogram += np.bincount(windows, minlength=self._cells)
        self._token_histogram += np.bincount(tokens, minlength=self._cells)
        explain = split == Split.EXPLAIN
        np.maximum.at(self._reference, records.feature[explain], records.maximum[explain])

    def _keep_top(self, records: Records, split: Ints) -> None:
        floor = self._top_floor[records.feature * SPLIT_COUNT + split]
        self._wait(self._top, records, records.maximum >= floor)

    def _keep_samples(self, records: Records, split: Ints) -> None:
        ceiling = self._sample_ceiling[sample_groups(records, split)]
        low = sample_priorities(records, self._plan.config.seed) <= ceiling
        self._wait(self._samples, records, low)

    def _keep_documents(self, records: Records) -> None:
        document = self._plan.layout.documents_of(self._plan.layout.window_context[records.window])
        maxima = DocumentMaxima(records.feature, document, records.maximum)
        self._documents.append(DocumentMaxima.join([maxima], self._reference))
        self._waiting += len(self._documents[-1].feature)

    def _wait(self, kept: list[Records], records: Records, mask: NDArray[np.bool_]) -> None:
        if mask.any():
            kept.append(records.take(mask))
            self._waiting += len(kept[-1])

    def _hits(self, records: Records) -> Ints:
        panel = self._plan.panel_windows
        place = np.minimum(np.searchsorted(panel, records.window), max(0, len(panel) - 1))
        hit = panel[place] == records.window
        hits: Ints = place[hit] * self._features + records.feature[hit]
        return hits

    def _fold(self) -> None:
        plan = self._plan
        top = select_top(Records.join(self._top), plan.layout, plan.window_split, plan.config)
        samples = select_samples(Records.join(self._samples), plan.window_split, plan.config)
        self._top, self._samples, self._waiting = [top], [samples], 0
        self._documents = [DocumentMaxima.join(self._documents, self._reference)]
        self._panel_hits = [np.unique(np.concatenate(self._panel_hits))]
        self._raise_floors(top, samples)

    def _raise_floors(self, top: Records, samples: Records) -> None:
        config = self._plan.config
        split = split_of(top, self._plan.window_split)
        group = top.feature * SPLIT_COUNT + split
        last, full = _last_of_full(group, np.asarray(config.top_counts)[split])
        self._top_floor[group[last[full]]] = top.maximum[last[full]]
        split = split_of(samples, self._plan.window_split)
        group = sample_groups(samples, split)
        last, full = _last_of_full(group, np.asarray(config.bin_sample_counts)[split])
        worst = sample_priorities(samples, config.seed)
        self._sample_ceiling[group[last[full]]] = worst[last[full]]


def _last_of_full(group: Ints, counts: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """Last row of each run of a group, and whether the run is as long as it may be."""
    starts = group_starts(group)
    ends = np.concatenate([starts[1:], [len(group)]]).astype(np.int64)
    last = ends[: len(starts)] - 1
    return last, ends[: len(starts)] - starts >= counts[last]
