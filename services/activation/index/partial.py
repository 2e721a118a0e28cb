"""A part of an index: what some chunks of the corpus contribute, and how parts are joined.

Counts add up; records are selected again; document maxima and panel hits are united. All of it
is exact and independent of order and grouping, because values are only counted and compared,
never summed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.activation.index.layout import Ints
from services.activation.index.plan import IndexPlan
from services.activation.index.records import Floats, Records
from services.activation.index.selection import select_samples, select_top
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
    def empty() -> DocumentMaxima:
        """No documents."""
        none = np.empty(0, np.int64)
        return DocumentMaxima(none, none, np.empty(0, np.float32))

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


def save_partial(partial: Partial, folder: Path) -> None:
    """Write one part as arrays in ``folder``, beside what is there. Its tables are sorted by
    feature, so a block of features is a run of each."""
    arrays: dict[str, Any] = {
        "key": np.array(partial.key),
        "feature_count": np.array(partial.feature_count),
        "chunks": partial.chunks,
        "panel_hits": partial.panel_hits,
        "reference": partial.reference,
        **{
            name: np.ascontiguousarray(np.swapaxes(getattr(partial, name), 0, 1))
            for name in _HISTOGRAMS
        },
    }
    for name, kind in _GROUPS.items():
        group = getattr(partial, name)
        arrays |= {f"{name}.{f.name}": getattr(group, f.name) for f in fields(kind)}
        rows = np.bincount(group.feature, minlength=partial.feature_count)
        arrays[f"{name}.bounds"] = np.concatenate([[0], np.cumsum(rows)])
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)


class PartFolder:
    """One part on disk, read block by block of features; nothing of it stays in memory.

    Raises:
        FailedPrecondition: ARTIFACT_CORRUPT where it is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.key = str(self._whole("key"))
        self.feature_count = int(self._whole("feature_count"))

    def block(self, features: range) -> Partial:
        """What the part holds of some features. Histograms are those of the block; everything
        else counts features as the whole index does; panel hits come with every block."""
        groups: dict[str, Any] = {name: self._group(name, features) for name in _GROUPS}
        tokens, windows = (
            np.swapaxes(self._rows(name, features.start, features.stop), 0, 1)
            for name in _HISTOGRAMS
        )
        return Partial(
            key=self.key,
            chunks=self._whole("chunks"),
            feature_count=self.feature_count,
            token_histogram=tokens,
            window_histogram=windows,
            panel_hits=self._whole("panel_hits"),
            reference=self._whole("reference"),
            **groups,
        )

    def _group(self, name: str, features: range) -> Any:
        """The rows of a table that belong to some features, with their entries."""
        bounds = self._rows(f"{name}.bounds", features.start, features.stop + 1)
        first, last = int(bounds[0]), int(bounds[-1])
        kind = _GROUPS[name]
        if kind is DocumentMaxima:
            columns = [self._rows(f"{name}.{f.name}", first, last) for f in fields(kind)]
            return DocumentMaxima(*columns)
        offsets = self._rows(f"{name}.offsets", first, last + 1)
        entries = (int(offsets[0]), int(offsets[-1]))
        return Records(
            feature=self._rows(f"{name}.feature", first, last),
            window=self._rows(f"{name}.window", first, last),
            maximum=self._rows(f"{name}.maximum", first, last),
            peak=self._rows(f"{name}.peak", first, last),
            offsets=offsets - offsets[0],
            position=self._rows(f"{name}.position", *entries),
            value=self._rows(f"{name}.value", *entries),
        )

    def _whole(self, name: str) -> NDArray[Any]:
        with self._damage_named(name) as path:
            array: NDArray[Any] = np.load(path, allow_pickle=False)
            return array

    def _rows(self, name: str, begin: int, end: int) -> NDArray[Any]:
        """A run of rows of an array, read from its file."""
        with self._damage_named(name) as path, path.open("rb") as file:
            np.lib.format.read_magic(file)
            shape, _, kind = np.lib.format.read_array_header_1_0(file)
            width = int(np.prod(shape[1:], dtype=np.int64))
            file.seek(begin * width * kind.itemsize, os.SEEK_CUR)
            count = (end - begin) * width
            values: NDArray[Any] = np.frombuffer(file.read(count * kind.itemsize), kind)
            return values.reshape(end - begin, *shape[1:])

    @contextmanager
    def _damage_named(self, name: str) -> Iterator[Path]:
        path = self._folder / f"{name}.npy"
        try:
            yield path
        except (OSError, ValueError, EOFError) as error:
            message = f"part of an index at {path} is missing or damaged: {error}"
            raise FailedPrecondition(message, reason="ARTIFACT_CORRUPT") from error


_HISTOGRAMS = ("token_histogram", "window_histogram")
_GROUPS: dict[str, Any] = {"top": Records, "samples": Records, "documents": DocumentMaxima}
