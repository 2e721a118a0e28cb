"""What one SAE's activations are computed with, and who holds it in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol

from services.activation.encoder.encode import Encoder
from services.activation.encoder.identity import Fingerprints
from services.activation.encoder.sae import Sae


@dataclass(frozen=True)
class LoadedSae:
    """Everything that computes one SAE's activations. SAEs of one model share its encoder."""

    encoder: Encoder
    sae: Sae
    fingerprints: Fingerprints
    readout: str = ""
    """Fingerprint of final norm and unembedding; facts of output tokens depend on it."""


@dataclass
class Lease:
    """Keeps an SAE and its model in memory until released; a context manager."""

    loaded: LoadedSae
    _give_back: Callable[[], None]
    _released: bool = field(default=False, init=False)

    def release(self) -> None:
        """What was leased may be evicted again. A second call does nothing."""
        if not self._released:
            self._released = True
            self._give_back()

    def __enter__(self) -> LoadedSae:
        return self.loaded

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


class SaeLoader(Protocol):
    """Finds or loads what belongs to an SAE id; safe to call from many threads."""

    def __call__(self, sae_id: str) -> LoadedSae:
        """Without a lease, for short use: it may be evicted from the books while you hold it.
        Blocks while it loads; raises as :meth:`lease`."""
        ...

    def lease(self, sae_id: str) -> Lease:
        """Blocks while it loads.

        Raises:
            NotFound: SAE_NOT_FOUND for an unknown id.
            FailedPrecondition: MEMORY_EXHAUSTED where it can never fit; FINGERPRINT_MISMATCH.
            ResourceExhausted: MEMORY_EXHAUSTED while what is in use leaves no room.
        """
        ...

    def lease_ready(self, sae_id: str) -> Lease | None:
        """The lease if nothing has to be loaded for it, else None; never blocks on a load."""
        ...
