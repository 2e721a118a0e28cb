"""The strongest tokens of every feature, gathered from sparse activations batch by batch.

Memory is bounded by ``features x top_count`` and one fold's worth of entries, whatever the size
of the vocabulary. The result does not depend on the order or the size of the batches.

A feature whose list is full has a bar, its weakest value; what stays below it is never sorted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.activation.encoder.rows import SparseRow

_ENTRIES_PER_FOLD = 250_000

NO_TOKEN = -1
"""Fills up the list of a feature that fires at fewer tokens than were asked for."""


@dataclass(frozen=True)
class Tops:
    """The strongest tokens of each feature behind one carrier."""

    token_ids: NDArray[np.int32]
    """[features, top_count], strongest first, equal values by id; then ``NO_TOKEN``."""
    values: NDArray[np.float32]
    """[features, top_count], 0 where there is no token."""
    positive: NDArray[np.int32]
    """[features] tokens above 0."""
    active: NDArray[np.int32]
    """[features] tokens at or above the feature's floor, where it has one; else 0."""


class TopTokens:
    """Gathers :class:`Tops`.

    Args:
        feature_count: Features of the SAE.
        top_count: Tokens to keep of each.
        floors: [features] value from which on a token counts as active; 0 for none.
    """

    def __init__(
        self, feature_count: int, top_count: int, floors: NDArray[np.float32] | None = None
    ) -> None:
        self._feature_count = feature_count
        self._top_count = top_count
        raised = np.zeros(feature_count, np.float32) if floors is None else floors
        self._floors = np.where(raised > 0, raised, np.inf).astype(np.float32)
        self._positive = np.zeros(feature_count, np.int64)
        self._active = np.zeros(feature_count, np.int64)
        self._bars = np.zeros(feature_count, np.float32)
        self._kept = _Entries.empty()
        self._new: list[_Entries] = []
        self._new_count = 0

    def add(self, token_ids: NDArray[np.int64], row: SparseRow) -> None:
        """Take in the activations at some tokens; ``row`` has one entry list per token."""
        tokens = np.repeat(token_ids, np.diff(row.indptr)).astype(np.int32)
        features = row.features.astype(np.int64)
        strong = row.values >= self._floors[features]
        self._positive += np.bincount(features, minlength=self._feature_count)
        self._active += np.bincount(features[strong], minlength=self._feature_count)
        new = _Entries(features, tokens, row.values).take(row.values >= self._bars[features])
        self._new.append(new)
        self._new_count += len(new.values)
        if self._new_count >= _ENTRIES_PER_FOLD:
            self._fold()

    def result(self) -> Tops:
        """What was gathered so far."""
        self._fold()
        shape = (self._feature_count, self._top_count)
        token_ids = np.full(shape, NO_TOKEN, np.int32)
        values = np.zeros(shape, np.float32)
        rank = self._kept.rank()
        token_ids[self._kept.features, rank] = self._kept.tokens
        values[self._kept.features, rank] = self._kept.values
        return Tops(
            token_ids, values, self._positive.astype(np.int32), self._active.astype(np.int32)
        )

    def _fold(self) -> None:
        joined = _Entries.join([self._kept, *self._new]).sorted()
        rank = joined.rank()
        self._kept = joined.take(rank < self._top_count)
        self._new, self._new_count = [], 0
        last = joined.take(rank == self._top_count - 1)
        self._bars[last.features] = last.values


@dataclass(frozen=True)
class _Entries:
    features: NDArray[np.int64]
    tokens: NDArray[np.int32]
    values: NDArray[np.float32]

    @staticmethod
    def empty() -> _Entries:
        return _Entries(np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))

    @staticmethod
    def join(parts: list[_Entries]) -> _Entries:
        return _Entries(
            np.concatenate([part.features for part in parts]),
            np.concatenate([part.tokens for part in parts]),
            np.concatenate([part.values for part in parts]),
        )

    def take(self, mask: NDArray[np.bool_]) -> _Entries:
        return _Entries(self.features[mask], self.tokens[mask], self.values[mask])

    def sorted(self) -> _Entries:
        """By feature, then strongest first, then by token."""
        order = np.lexsort((self.tokens, -self.values, self.features))
        return _Entries(self.features[order], self.tokens[order], self.values[order])

    def rank(self) -> NDArray[np.int64]:
        """Place of each entry among its feature's; entries are sorted."""
        starts = np.searchsorted(self.features, self.features, side="left")
        ranks: NDArray[np.int64] = np.arange(len(self.features)) - starts
        return ranks
