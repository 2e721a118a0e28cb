"""Who computes tokens behind a prefix; apart, so that the gRPC face needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.activation.encoder.backend import Backend, EncoderLimits
from services.activation.encoder.rows import DenseRow, SparseRow, TokenRow

_PASSES_PER_CALL = 8
"""Tokens of one call to a backend, in forward passes: enough to keep two under way."""


class ContinuationSource(Protocol):
    """Activations at single tokens behind a prefix; raises what a ``Backend`` raises."""

    name: str
    """What computes: ``in_process`` or ``triton``."""

    async def sparse(
        self, sae_id: str, prefix: TokenRow, token_ids: NDArray[np.int64]
    ) -> SparseRow:
        """All activations above zero, an entry list per token."""
        ...

    async def dense(
        self,
        sae_id: str,
        prefix: TokenRow,
        token_ids: NDArray[np.int64],
        features: Sequence[int],
    ) -> DenseRow:
        """Chosen features, float32 [tokens, features]."""
        ...

    async def close(self) -> None:
        """End what runs."""
        ...


class RowsOfBackend:
    """Asks a backend for whole rows ``prefix + token``: right anywhere, and as many times slower
    as a row has tokens. For backends that cannot share a prefix.

    Rows go in calls of bounded size, one after the other, so that neither a long prefix nor a
    large batch is more than the backend admits beside its other callers.

    Args:
        backend: Computes the rows.
        name: What computes.
        limits: Of the backend.
    """

    def __init__(self, backend: Backend, name: str, limits: EncoderLimits) -> None:
        self._backend = backend
        self.name = name
        self._limits = limits

    async def sparse(
        self, sae_id: str, prefix: TokenRow, token_ids: NDArray[np.int64]
    ) -> SparseRow:
        """See :class:`ContinuationSource`."""
        features, values, counts = [], [], []
        for rows in self._calls(prefix, token_ids):
            for row in await self._backend.encode_sparse(sae_id, rows):
                last = slice(int(row.indptr[-2]), int(row.indptr[-1]))
                features.append(row.features[last])
                values.append(row.values[last])
                counts.append(last.stop - last.start)
        return SparseRow(
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            np.concatenate(features),
            np.concatenate(values),
        )

    async def dense(
        self,
        sae_id: str,
        prefix: TokenRow,
        token_ids: NDArray[np.int64],
        features: Sequence[int],
    ) -> DenseRow:
        """See :class:`ContinuationSource`."""
        found = []
        for rows in self._calls(prefix, token_ids):
            found += [row[-1] for row in await self._backend.encode(sae_id, rows, features)]
        return np.stack(found)

    async def close(self) -> None:
        """Nothing to close: the backend has another owner."""

    def _calls(self, prefix: TokenRow, token_ids: NDArray[np.int64]) -> Iterator[list[TokenRow]]:
        tokens = _PASSES_PER_CALL * self._limits.batch_token_budget
        size = max(1, min(self._limits.max_rows, tokens // (len(prefix) + 1)))
        for start in range(0, len(token_ids), size):
            ids = token_ids[start : start + size]
            repeated = np.broadcast_to(prefix, (len(ids), len(prefix)))
            yield list(np.concatenate([repeated, ids[:, None]], axis=1))
