"""A part of an index: what some chunks of the corpus contribute, and how parts are joined.

Counts add up; records are selected again; document maxima and panel hits are united. All of it
is exact and independent of order and grouping, because values are only counted and compared,
never summed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from services.activation.index.config import SPLIT_COUNT, Split
from services.activation.index.grid import BIN_COUNT, bin_of
from services.activation.index.layout import Ints
from services.activation.index.plan import IndexPlan
from services.activation.index.records import Floats, Records
from services.activation.index.selection import select_samples, select_top, split_of
from services.activation.index.splits import EXCLUDED
from services.common.errors import FailedPrecondition

ACTIVE_SHARE = 0.5
"""tau as a share of the reference maximum."""


@dataclass(frozen=True)
class DocumentMaxima:
    """Largest activation of a feature in a document, for documents that may count.

    Documents below tau of what is known so far can never count, so they are dropped early.
    """

    feature: Ints
    document: Ints
    value: Floats

    @staticmethod
    def join(parts: Sequence[DocumentMaxima], reference: Floats) -> DocumentMaxima:
        """Unite, keep each pair's largest value, drop what is below tau of ``reference``."""
        feature = np.concatenate([part.feature for part in parts])
        document = np.concatenate([part.document for part in parts])
        value = np.concatenate([part.value for part in parts])
        kept = value >= np.float32(ACTIVE_SHARE) * reference[feature]
        feature, document, value = feature[kept], document[kept], value[kept]
        order = np.lexsort((-value, document, feature))
        feature, document, value = feature[order], document[order], value[order]
        first = np.ones(len(order), dtype=bool)
        first[1:] = (feature[1:] != feature[:-1]) | (document[1:] != document[:-1])
        return DocumentMaxima(feature[first], document[first], value[first])


@dataclass(frozen=True)
class Partial:
    """What some chunks contribute."""

    key: str
    """Key of the index it is a part of."""
    chunks: Ints
    """Chunks it covers, ascending."""
    feature_count: int
    token_histogram: Ints
    """[splits, features, bins] scored tokens at which the feature fires, by activation."""
    window_histogram: Ints
    """[splits, features, bins] windows in which the feature fires, by maximum."""
    top: Records
    samples: Records
    documents: DocumentMaxima
    panel_hits: Ints
    """Ascending ``place in the panel * feature_count + feature`` where the feature fires."""
    reference: Floats
    """[features] largest activation in EXPLAIN."""

    @staticmethod
    def empty(plan: IndexPlan, feature_count: int, chunks: Sequence[int]) -> Partial:
        """Nothing counted yet."""
        shape = (SPLIT_COUNT, feature_count, BIN_COUNT)
        none = np.empty(0, np.int64)
        return Partial(
            key=plan.key,
            chunks=np.array(sorted(chunks), dtype=np.int64),
            feature_count=feature_count,
            token_histogram=np.zeros(shape, np.int64),
            window_histogram=np.zeros(shape, np.int64),
            top=Records.empty(),
            samples=Records.empty(),
            documents=DocumentMaxima(none, none, np.empty(0, np.float32)),
            panel_hits=none,
            reference=np.zeros(feature_count, np.float32),
        )


def partial_of(plan: IndexPlan, feature_count: int, records: Records) -> Partial:
    """What some records contribute; records of excluded windows are left out."""
    records = records.take(plan.window_split[records.window] != EXCLUDED)
    split = split_of(records, plan.window_split)
    lengths = np.diff(records.offsets)
    explain = split == Split.EXPLAIN
    reference = np.zeros(feature_count, np.float32)
    np.maximum.at(reference, records.feature[explain], records.maximum[explain])
    document = plan.layout.window_document[records.window]
    maxima = DocumentMaxima(records.feature, document, records.maximum)
    return Partial(
        key=plan.key,
        chunks=np.empty(0, np.int64),
        feature_count=feature_count,
        token_histogram=_histogram(
            np.repeat(split, lengths),
            np.repeat(records.feature, lengths),
            records.value,
            feature_count,
        ),
        window_histogram=_histogram(split, records.feature, records.maximum, feature_count),
        top=select_top(records, plan.layout, plan.window_split, plan.config),
        samples=select_samples(records, plan.window_split, plan.config),
        documents=DocumentMaxima.join([maxima], reference),
        panel_hits=_panel_hits(plan, feature_count, records),
        reference=reference,
    )


def join_partials(plan: IndexPlan, parts: Sequence[Partial]) -> Partial:
    """Unite parts.

    Raises:
        FailedPrecondition: FINGERPRINT_MISMATCH where a part belongs to another index,
            ARTIFACT_CORRUPT where two parts cover the same chunk.
    """
    if any(part.key != plan.key for part in parts):
        message = "a part belongs to an index with another key"
        raise FailedPrecondition(message, reason="FINGERPRINT_MISMATCH")
    chunks = np.sort(np.concatenate([part.chunks for part in parts]))
    if len(np.unique(chunks)) != len(chunks):
        raise FailedPrecondition("two parts cover the same chunk", reason="ARTIFACT_CORRUPT")
    top = Records.join([part.top for part in parts])
    samples = Records.join([part.samples for part in parts])
    reference: Floats = np.max([part.reference for part in parts], axis=0)
    return Partial(
        key=plan.key,
        chunks=chunks,
        feature_count=parts[0].feature_count,
        token_histogram=np.sum([part.token_histogram for part in parts], axis=0),
        window_histogram=np.sum([part.window_histogram for part in parts], axis=0),
        top=select_top(top, plan.layout, plan.window_split, plan.config),
        samples=select_samples(samples, plan.window_split, plan.config),
        documents=DocumentMaxima.join([part.documents for part in parts], reference),
        panel_hits=np.unique(np.concatenate([part.panel_hits for part in parts])),
        reference=reference,
    )


def save_partial(partial: Partial, path: Path) -> None:
    """Write one part as ``.npz``; whole or not at all."""
    arrays: dict[str, Any] = {
        "key": np.array(partial.key),
        "feature_count": np.array(partial.feature_count),
        "chunks": partial.chunks,
        "token_histogram": partial.token_histogram,
        "window_histogram": partial.window_histogram,
        "panel_hits": partial.panel_hits,
        "reference": partial.reference,
    }
    for name in ("top", "samples", "documents"):
        group = getattr(partial, name)
        arrays |= {f"{name}.{f.name}": getattr(group, f.name) for f in fields(group)}
    temporary = path.with_suffix(".tmp.npz")
    np.savez(temporary, allow_pickle=False, **arrays)
    temporary.replace(path)


def load_partial(path: Path) -> Partial:
    """Read what :func:`save_partial` wrote.

    Raises:
        FailedPrecondition: ARTIFACT_CORRUPT where it is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
            groups: dict[str, Any] = {
                name: kind(**{f.name: arrays[f"{name}.{f.name}"] for f in fields(kind)})
                for name, kind in (
                    ("top", Records),
                    ("samples", Records),
                    ("documents", DocumentMaxima),
                )
            }
            plain = ("chunks", "token_histogram", "window_histogram", "panel_hits", "reference")
            return Partial(
                key=str(arrays["key"]),
                feature_count=int(arrays["feature_count"]),
                **{name: arrays[name] for name in plain},
                **groups,
            )
    except (OSError, ValueError, KeyError, EOFError) as error:
        message = f"part of an index at {path} is missing or damaged: {error}"
        raise FailedPrecondition(message, reason="ARTIFACT_CORRUPT") from error


def _histogram(split: Ints, feature: Ints, value: Floats, feature_count: int) -> Ints:
    shape = (SPLIT_COUNT, feature_count, BIN_COUNT)
    cells = (split * feature_count + feature) * BIN_COUNT + bin_of(value)
    counts: Ints = np.bincount(cells, minlength=SPLIT_COUNT * feature_count * BIN_COUNT)
    return counts.reshape(shape)


def _panel_hits(plan: IndexPlan, feature_count: int, records: Records) -> Ints:
    place = np.searchsorted(plan.panel_windows, records.window)
    place = np.minimum(place, max(0, len(plan.panel_windows) - 1))
    hit = plan.panel_windows[place] == records.window
    hits: Ints = np.unique(place[hit] * feature_count + records.feature[hit])
    return hits
