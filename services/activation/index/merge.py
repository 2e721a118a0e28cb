"""From finished parts to an index: block by block of features, so that memory stays that of a
block, however many parts there are and however long they were swept.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from services.activation.encoder.identity import canonical_json
from services.activation.index.artifact import (
    DOCUMENTS,
    IS_SAMPLE,
    IS_TOP,
    MANIFEST,
    VALUE_STEPS,
    ArtifactFiles,
    checksums,
    put_in_place,
)
from services.activation.index.config import FORMAT_VERSION, SPLIT_COUNT, Split
from services.activation.index.grid import BIN_COUNT, bin_of
from services.activation.index.layout import Ints
from services.activation.index.misses import MissFinder
from services.activation.index.partial import PartFolder, Partial, join_partials
from services.activation.index.plan import IndexPlan, plan_facts
from services.activation.index.pool import PoolTable, block_size
from services.activation.index.records import Floats, Records
from services.activation.index.selection import split_of
from services.activation.index.spool import blocks
from services.activation.index.statistics import densities, document_counts, funnel, strata
from services.common.errors import Cancelled, FailedPrecondition

Neighbors = Callable[[range], list[Ints]]
"""Per feature of a block the features whose decoder directions are close, nearest first."""
_PARTS_AT_ONCE = 4
_STRONG_SHARE = 0.5
"""Exemplars at this share of the reference maximum or above show what a feature peaks on."""


def merge_parts(
    plan: IndexPlan,
    folders: Sequence[Path],
    neighbors: Neighbors,
    target: Path,
    cancelled: Callable[[], bool] = lambda: False,
) -> ArtifactFiles:
    """Merge the parts of all shards into an index.

    Args:
        plan: The plan.
        folders: Parts, in any order.
        neighbors: For near misses.
        target: Appears complete or not at all; one that is there already stays as it is.
        cancelled: Asked before every block of features.

    Raises:
        Cancelled: ``cancelled`` said so.
        FailedPrecondition: ARTIFACT_CORRUPT where a part is missing or damaged or two cover the
            same chunk, FINGERPRINT_MISMATCH where one belongs to another index.
    """
    parts = [PartFolder(folder) for folder in folders]
    feature_count = _check_complete(plan, parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".merge-", dir=target.parent) as scratch:
        temporary = Path(scratch) / "index"
        temporary.mkdir()
        writer = _Writer(plan, feature_count, temporary, Path(scratch))
        for block in blocks(feature_count, block_size(feature_count)):
            if cancelled():
                raise Cancelled("the index is no longer wanted")
            writer.add(_joined(plan, parts, block), block)
        table = PoolTable(folders, feature_count, Path(scratch))
        writer.find_misses(table, neighbors)
        writer.finish()
        return put_in_place(temporary, target)


def _check_complete(plan: IndexPlan, parts: Sequence[PartFolder]) -> int:
    nothing = _joined(plan, parts, range(0))
    missing = sorted(set(range(plan.chunk_count)) - set(nothing.chunks.tolist()))
    if missing:
        message = f"{len(missing)} of {plan.chunk_count} chunks are missing, first {missing[0]}"
        raise FailedPrecondition(message, reason="ARTIFACT_CORRUPT")
    return nothing.feature_count


def _joined(plan: IndexPlan, parts: Sequence[PartFolder], block: range) -> Partial:
    """One block of all parts, a few in memory at a time."""
    whole = parts[0].block(block)
    for few in blocks(len(parts) - 1, _PARTS_AT_ONCE):
        more = [parts[place + 1].block(block) for place in few]
        whole = join_partials(plan, [whole, *more])
    return whole


class _Writer:
    """Takes blocks of features in order and leaves the index in ``folder``."""

    def __init__(self, plan: IndexPlan, feature_count: int, folder: Path, scratch: Path) -> None:
        self._plan, self._features = plan, feature_count
        self._folder, self._scratch = folder, scratch
        shape = (SPLIT_COUNT, feature_count, BIN_COUNT)
        self._tokens, self._windows = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        self._reference = np.zeros(feature_count, np.float32)
        self._maximum = np.zeros(feature_count, np.float32)
        self._tau_documents = np.zeros((SPLIT_COUNT, feature_count), np.int64)
        self._rows, self._entries = np.zeros(feature_count, np.int64), np.zeros(feature_count)
        self._panel_hits = np.empty(0, np.int64)
        self._exemplars: dict[int, tuple[Ints, Ints]] = {}
        self._files: dict[str, tuple[IO[bytes], np.dtype[Any]]] = {}

    def add(self, whole: Partial, block: range) -> None:
        """Take one block, all parts joined."""
        place = slice(block.start, block.stop)
        self._tokens[:, place], self._windows[:, place] = (
            whole.token_histogram,
            whole.window_histogram,
        )
        self._reference, self._panel_hits = whole.reference, whole.panel_hits
        np.maximum.at(self._maximum, whole.top.feature, whole.top.maximum)
        self._tau_documents += document_counts(self._plan, whole)
        self._add_records(whole)
        self._exemplars |= _exemplars(self._plan, whole.top, whole.reference)

    def find_misses(self, table: PoolTable, neighbors: Neighbors) -> None:
        """Near misses of every feature that has exemplars."""
        plan = self._plan
        pool = plan.pool_windows
        finder = MissFinder(
            plan.layout, pool, plan.window_split[pool], table, self._reference, plan.config
        )
        rows = np.zeros(self._features, np.int64)
        counts = np.zeros((self._features, SPLIT_COUNT, 3), np.int64)
        for block in blocks(self._features, block_size(self._features)):
            for feature, near in zip(block, neighbors(block), strict=True):
                if feature not in self._exemplars:
                    continue
                portrait = finder.portrait(plan.layout, *self._exemplars[feature])
                found = finder.find(feature, portrait, near)
                rows[feature], counts[feature] = len(found.window), found.counts
                self._append("miss_window", found.window)
                self._append("miss_rung", found.rung)
        self._save(miss_offsets=_bounds(rows), miss_counts=_smallest(counts))

    def finish(self) -> None:
        """Write what was counted, and the manifest."""
        plan, layout = self._plan, self._plan.layout
        for name in _ROW_COLUMNS:
            self._append(name, np.empty(0, np.int64))
        for name, (file, kind) in self._files.items():
            file.close()
            path = Path(file.name)
            values = np.memmap(path, kind, "r") if path.stat().st_size else np.empty(0, kind)
            self._save(**{name: _smallest(values) if name in _WINDOW_COLUMNS else values})
        hits = np.zeros((self._features, len(plan.panel_windows)), dtype=bool)
        place, feature = np.divmod(self._panel_hits, self._features)
        hits[feature, place] = True
        self._save(
            tokens=_smallest(layout.tokens),
            document_offsets=layout.document_offsets.astype(np.uint32),
            document_split=plan.document_split,
            window_split=plan.window_split,
            token_histogram=_smallest(self._tokens),
            window_histogram=_smallest(self._windows),
            panel_hits=np.packbits(hits, axis=1),
            maximum=self._maximum,
            reference_max=self._reference,
            tau_documents=_smallest(self._tau_documents),
            row_offsets=_bounds(self._rows),
            entry_offsets=_bounds(self._entries),
        )
        self._write_manifest()

    def _write_manifest(self) -> None:
        plan = self._plan
        facts = plan_facts(plan)
        documents = {"documents": facts.pop("documents")}
        (self._folder / DOCUMENTS).write_bytes(canonical_json(documents))
        density = densities(self._tokens, plan.split_report.scored_token_counts)
        manifest = {
            **facts,
            "format": FORMAT_VERSION,
            "feature_count": self._features,
            "document_count": len(plan.documents.ids),
            "token_count": plan.token_count,
            "window_count": plan.layout.window_count,
            "split_report": plan.split_report.as_dict(),
            "funnel": funnel(strata(density, self._tokens, self._tau_documents)).as_dict(),
            "files": checksums(self._folder),
        }
        (self._folder / MANIFEST).write_bytes(canonical_json(manifest))

    def _add_records(self, whole: Partial) -> None:
        records, flags = _united(self._plan, whole)
        counts = np.diff(records.offsets)
        scale = np.repeat(self._maximum[records.feature].astype(np.float64), counts)
        steps = np.rint(records.value / scale * VALUE_STEPS)
        steps = np.clip(steps, 1, VALUE_STEPS).astype(np.uint16)
        self._rows += np.bincount(records.feature, minlength=self._features)
        self._entries += np.bincount(records.feature, counts, self._features)
        self._append("row_window", records.window)
        self._append("row_flags", flags)
        self._append("row_bin", bin_of(records.maximum))
        self._append("row_entry_count", counts)
        self._append("entry_position", records.position)
        self._append("entry_value_high", steps >> 8)
        self._append("entry_value_low", steps & 255)

    def _append(self, name: str, values: NDArray[Any]) -> None:
        if name not in self._files:
            kind = np.dtype(np.int64 if name in _WINDOW_COLUMNS else np.uint8)
            self._files[name] = ((self._scratch / name).open("wb"), kind)
        file, kind = self._files[name]
        file.write(values.astype(kind).tobytes())

    def _save(self, **arrays: NDArray[Any]) -> None:
        for name, array in arrays.items():
            path = self._folder / f"{name}.npy"
            np.save(path, np.ascontiguousarray(array), allow_pickle=False)


_WINDOW_COLUMNS = ("row_window", "miss_window")
_ROW_COLUMNS = (
    *("row_window", "row_flags", "row_bin", "row_entry_count"),
    *("entry_position", "entry_value_high", "entry_value_low", "miss_window", "miss_rung"),
)


def _exemplars(plan: IndexPlan, top: Records, reference: Floats) -> dict[int, tuple[Ints, Ints]]:
    """Per feature the windows of its strong EXPLAIN exemplars and the places of their peaks."""
    strong = top.maximum >= np.float32(_STRONG_SHARE) * reference[top.feature]
    rows = np.flatnonzero(strong & (split_of(top, plan.window_split) == Split.EXPLAIN))
    feature, window = top.feature[rows], top.window[rows]
    peaks = plan.layout.window_start[window] + top.peak[rows]
    numbers, starts = np.unique(feature, return_index=True)
    bounds = [*starts.tolist(), len(rows)]
    return {
        int(number): (window[begin:end], peaks[begin:end])
        for number, begin, end in zip(numbers, bounds[:-1], bounds[1:], strict=True)
    }


def _united(plan: IndexPlan, whole: Partial) -> tuple[Records, NDArray[np.uint8]]:
    """Exemplars and samples in one table, by feature, split, bin and window; a flag for each."""
    records = Records.join([whole.top, whole.samples])
    flags = np.repeat(np.array([IS_TOP, IS_SAMPLE], np.uint8), [len(whole.top), len(whole.samples)])
    split = split_of(records, plan.window_split)
    order = np.lexsort((flags, records.window, bin_of(records.maximum), split, records.feature))
    records, flags = records.take(order), flags[order]
    same = (records.feature[1:] == records.feature[:-1]) & (
        records.window[1:] == records.window[:-1]
    )
    flags[:-1][same] |= flags[1:][same]
    first = np.concatenate([[True], ~same]) if len(flags) else np.empty(0, bool)
    return records.take(first), flags[first]


def _bounds(counts: NDArray[Any]) -> NDArray[np.uint32]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32)


def _smallest(array: NDArray[Any]) -> NDArray[Any]:
    """The same whole numbers >= 0 in the narrowest unsigned type that holds them."""
    largest = int(array.max(initial=0))
    return array.astype(np.min_scalar_type(largest))
