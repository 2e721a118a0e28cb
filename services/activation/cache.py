"""Activations that were computed before, by content: a least recently used cache in memory.

One entry is one token row under one SAE's fingerprints and one list of features; who asked, and
beside which other rows, does not matter. An entry is written only when its computation has
succeeded, so a failed or cancelled call leaves nothing behind. Entries are read-only arrays,
shared by all who ask.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from services.activation.encoder.identity import Fingerprints, canonical_json
from services.activation.encoder.rows import DenseRow, SparseRow, TokenRow
from services.activation.engine import Engine
from services.activation.triton.wire import SaeDescription
from services.common.errors import InvalidArgument

Row = TypeVar("Row", DenseRow, SparseRow)

_ENTRY_BYTES = 512
"""Key, array headers and links of one entry; measured at about this, whatever the row."""


class RowCache:
    """Rows by key, at most so many bytes of them. Not safe for threads.

    Args:
        max_bytes: Of values and their book-keeping; a row larger than that is not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._rows: OrderedDict[bytes, DenseRow | SparseRow] = OrderedDict()
        self.bytes = 0
        """Held now."""
        self.hits = 0
        """Rows found."""
        self.misses = 0
        """Rows asked for and not found."""
        self.evictions = 0
        """Rows that made room."""

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, key: bytes) -> DenseRow | SparseRow | None:
        """The row, from now on the most recently used."""
        row = self._rows.get(key)
        if row is None:
            self.misses += 1
            return None
        self.hits += 1
        self._rows.move_to_end(key)
        return row

    def put(self, key: bytes, row: DenseRow | SparseRow) -> None:
        """Keep a row in place of those that were used longest ago."""
        kept = _owned(row)
        size = _size(kept)
        if size > self._max_bytes:
            return
        before = self._rows.pop(key, None)
        if before is not None:
            self.bytes -= _size(before)
        self._rows[key] = kept
        self.bytes += size
        while self.bytes > self._max_bytes:
            _, oldest = self._rows.popitem(last=False)
            self.bytes -= _size(oldest)
            self.evictions += 1


class CachedEngine:
    """An :class:`Engine` that computes only rows it has not computed before.

    Args:
        engine: Computes; closed together with this one.
        cache: Where rows are kept.
    """

    def __init__(self, engine: Engine, cache: RowCache) -> None:
        self._engine = engine
        self._cache = cache
        # A name stands for one set of weights for as long as a process lives: others are refused.
        self._fingerprints: dict[str, Fingerprints] = {}

    @property
    def tokens_per_second(self) -> float:
        """Measured speed of what computes, while busy."""
        return self._engine.tokens_per_second

    async def encode(
        self, sae_id: str, rows: Sequence[TokenRow], features: Sequence[int]
    ) -> list[DenseRow]:
        """Dense activations of chosen features; see ``Backend``."""
        return await self._through(
            sae_id, rows, features, lambda some: self._engine.encode(sae_id, some, features)
        )

    async def encode_sparse(self, sae_id: str, rows: Sequence[TokenRow]) -> list[SparseRow]:
        """All activations above zero; see ``Backend``."""
        return await self._through(
            sae_id, rows, None, lambda some: self._engine.encode_sparse(sae_id, some)
        )

    async def fingerprints(self, sae_id: str) -> Fingerprints:
        """What is loaded for ``sae_id``."""
        return await self._engine.fingerprints(sae_id)

    async def describe(self, sae_id: str) -> SaeDescription:
        """Sizes, kind and fingerprints of what is loaded for ``sae_id``."""
        return await self._engine.describe(sae_id)

    async def close(self) -> None:
        """Close what computes."""
        await self._engine.close()

    async def _through(
        self,
        sae_id: str,
        rows: Sequence[TokenRow],
        features: Sequence[int] | None,
        compute: Callable[[Sequence[TokenRow]], Awaitable[list[Row]]],
    ) -> list[Row]:
        if sae_id not in self._fingerprints:
            self._fingerprints[sae_id] = await self._engine.fingerprints(sae_id)
        keys = row_keys(self._fingerprints[sae_id], rows, features)
        found = [self._cache.get(key) for key in keys]
        missing = [place for place, row in enumerate(found) if row is None]
        if not missing:
            return found  # type: ignore[return-value]  # the key says which kind a row is
        try:
            computed = await compute([rows[place] for place in missing])
        except InvalidArgument:
            if len(missing) == len(rows):
                raise
            return await compute(rows)  # refuses again, counting the rows as the caller does
        for place, row in zip(missing, computed, strict=True):
            self._cache.put(keys[place], row)
            found[place] = row
        return found  # type: ignore[return-value]


def row_keys(
    fingerprints: Fingerprints, rows: Sequence[TokenRow], features: Sequence[int] | None
) -> list[bytes]:
    """sha256 per row over fingerprints, features in their order (None: all, sparse), token ids."""
    asked = None if features is None else [int(feature) for feature in features]
    prefix = hashlib.sha256(canonical_json([fingerprints.as_dict(), asked]) + b"\n")
    keys = []
    for row in rows:
        key = prefix.copy()
        key.update(np.ascontiguousarray(row, dtype="<i8").tobytes())
        keys.append(key.digest())
    return keys


def _owned(row: DenseRow | SparseRow) -> DenseRow | SparseRow:
    """A read-only row that keeps no larger array alive."""
    if isinstance(row, SparseRow):
        return SparseRow(_alone(row.indptr), _alone(row.features), _alone(row.values))
    return _alone(row)


_Array = TypeVar("_Array", bound=NDArray[np.generic])


def _alone(array: _Array) -> _Array:
    kept = array if array.base is None and not array.flags.writeable else array.copy()
    kept.flags.writeable = False
    return kept


def _size(row: DenseRow | SparseRow) -> int:
    parts = (row.indptr, row.features, row.values) if isinstance(row, SparseRow) else (row,)
    return _ENTRY_BYTES + sum(part.nbytes for part in parts)
