"""What the gRPC face asks: a backend that can also say what it serves."""

from __future__ import annotations

from typing import Protocol

from services.activation.encoder.backend import Backend
from services.activation.triton.wire import SaeDescription


class Engine(Backend, Protocol):
    """A backend with descriptions; see :class:`Backend` for what it raises."""

    @property
    def tokens_per_second(self) -> float:
        """Measured speed while busy, for the advice when to come back."""
        ...

    async def describe(self, sae_id: str) -> SaeDescription:
        """Sizes, kind and fingerprints of what is loaded for ``sae_id``; loads it if need be."""
        ...
