"""One face for whoever computes activations: this process, or a Triton server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.activation.encoder.identity import Fingerprints
from services.activation.encoder.rows import DenseRow, SparseRow, TokenRow


@dataclass(frozen=True)
class EncoderLimits:
    """What one backend admits. Everything beyond is refused, never dropped or cut."""

    max_rows: int = 512
    """Rows of one call."""
    max_row_tokens: int = 2_048
    """Tokens of one row, the first token included."""
    max_features: int = 1_024
    """Features of one dense call."""
    max_queued_tokens: int = 262_144
    """Tokens waiting or running, over all callers."""
    max_queued_calls: int = 4_096
    """Calls waiting or running, over all callers."""
    batch_token_budget: int = 4_096
    """Padded tokens of one forward pass."""


class Backend(Protocol):
    """Computes activations for token rows; safe to call from many tasks at once.

    Every method but ``close`` raises NotFound (SAE_NOT_FOUND) for an unknown SAE,
    InvalidArgument for rows or features out of bounds, ResourceExhausted
    (QUEUE_FULL, with a time to wait) when too much is waiting, and Unavailable
    (BACKEND_UNAVAILABLE) when nothing can be computed now. A cancelled task leaves the queue.
    """

    async def encode(
        self, sae_id: str, rows: Sequence[TokenRow], features: Sequence[int]
    ) -> list[DenseRow]:
        """Activations float32 [n_tokens, n_features] per row; position 0 is 0, not scored."""
        ...

    async def encode_sparse(self, sae_id: str, rows: Sequence[TokenRow]) -> list[SparseRow]:
        """All activations above zero per row."""
        ...

    async def fingerprints(self, sae_id: str) -> Fingerprints:
        """What this backend has loaded for ``sae_id``; loads it if need be."""
        ...

    async def close(self) -> None:
        """Refuse new work, end what runs, free threads and connections."""
        ...
