"""Who computes tokens behind a prefix; apart, so that the gRPC face needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.activation.encoder.backend import Backend
from services.activation.encoder.rows import DenseRow, SparseRow, TokenRow


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
    as a row has tokens. For backends that cannot share a prefix."""

    def __init__(self, backend: Backend, name: str) -> None:
        self._backend = backend
        self.name = name

    async def sparse(
        self, sae_id: str, prefix: TokenRow, token_ids: NDArray[np.int64]
    ) -> SparseRow:
        """See :class:`ContinuationSource`."""
        rows = await self._backend.encode_sparse(sae_id, _rows(prefix, token_ids))
        last = [slice(int(row.indptr[-2]), int(row.indptr[-1])) for row in rows]
        counts = [part.stop - part.start for part in last]
        return SparseRow(
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            np.concatenate([row.features[part] for row, part in zip(rows, last, strict=True)]),
            np.concatenate([row.values[part] for row, part in zip(rows, last, strict=True)]),
        )

    async def dense(
        self,
        sae_id: str,
        prefix: TokenRow,
        token_ids: NDArray[np.int64],
        features: Sequence[int],
    ) -> DenseRow:
        """See :class:`ContinuationSource`."""
        rows = await self._backend.encode(sae_id, _rows(prefix, token_ids), features)
        return np.stack([row[-1] for row in rows])

    async def close(self) -> None:
        """Nothing to close: the backend has another owner."""


def _rows(prefix: TokenRow, token_ids: NDArray[np.int64]) -> list[TokenRow]:
    repeated = np.broadcast_to(prefix, (len(token_ids), len(prefix)))
    return list(np.concatenate([repeated, token_ids[:, None]], axis=1))
