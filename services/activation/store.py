"""Models and SAEs in memory: loaded on demand, accounted for before, evicted when idle.

SAEs of one language model share its weights, which reach as deep as the deepest SAE asked for so
far. What is leased is never evicted; of the rest, what was used longest ago goes first. A load
that failed leaves nothing behind and is tried again by the next call.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from services.activation.encoder.loaded import Lease, LoadedSae
from services.activation.ledger import Held, Ledger
from services.activation.parts import LoadedModel, Needs, Parts, RealParts
from services.activation.triton.repository import TritonModelSpec, TritonSae
from services.common.errors import FailedPrecondition, NotFound


@dataclass(frozen=True)
class StoreFacts:
    """What a store holds and has done, for metrics."""

    loaded_saes: int
    loaded_models: int
    used_bytes: int
    budget_bytes: int
    load_count: int
    failed_load_count: int
    eviction_count: int
    """Models and SAEs that made room."""


@dataclass(frozen=True)
class _Model:
    held: Held
    loaded: LoadedModel


@dataclass(frozen=True)
class _Sae:
    held: Held
    loaded: LoadedSae
    key: str
    """Of the language model."""


class SaeStore:
    """A :class:`SaeLoader` over specifications of models.

    Args:
        spec_of: The specification of the model that an SAE id belongs to; raises NotFound
            (SAE_NOT_FOUND). May block.
        budget_bytes: Memory for weights and workspaces.
        parts: How things are measured and loaded.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        spec_of: Callable[[str], TritonModelSpec],
        budget_bytes: int,
        parts: Parts | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spec_of = spec_of
        self._parts = parts or RealParts()
        self._lock = threading.RLock()  # guards the books; never held while something loads
        self._ledger = Ledger(budget_bytes, clock)
        self._saes: dict[str, _Sae] = {}
        self._models: dict[str, _Model] = {}
        self._turns: dict[str, threading.Lock] = {}
        self._seen: dict[str, str] = {}
        self._loads = self._failed_loads = 0

    def __call__(self, sae_id: str) -> LoadedSae:
        """Without a lease; see :class:`SaeLoader`."""
        with self.lease(sae_id) as loaded:
            return loaded

    def lease_ready(self, sae_id: str) -> Lease | None:
        """The lease of what is loaded already."""
        with self._lock:
            sae = self._saes.get(sae_id)
            if sae is None:
                return None
            self._ledger.use(sae.held)
            return Lease(sae.loaded, lambda: self._leave(sae.held))

    def lease(self, sae_id: str) -> Lease:
        """Load if need be; of one language model, one load at a time. See :class:`SaeLoader`."""
        ready = self.lease_ready(sae_id)
        if ready is not None:
            return ready
        spec = self._spec_of(sae_id)
        with self._lock:
            turn = self._turns.setdefault(spec.key, threading.Lock())
        with turn:
            return self.lease_ready(sae_id) or self._counted_load(sae_id, spec)

    def facts(self) -> StoreFacts:
        """What is loaded now, and counts since the start."""
        with self._lock:
            return StoreFacts(
                loaded_saes=len(self._saes),
                loaded_models=len(self._models),
                used_bytes=self._ledger.used_bytes,
                budget_bytes=self._ledger.budget_bytes,
                load_count=self._loads,
                failed_load_count=self._failed_loads,
                eviction_count=self._ledger.eviction_count,
            )

    def _counted_load(self, sae_id: str, spec: TritonModelSpec) -> Lease:
        try:
            lease = self._load(sae_id, spec)
        except BaseException:
            self._failed_loads += 1
            raise
        self._loads += 1
        return lease

    def _load(self, sae_id: str, spec: TritonModelSpec) -> Lease:
        entry = _sae_of(spec, sae_id)
        needs = self._parts.measure(spec, entry)
        model = self._model(spec, needs, sae_id)

        def gone() -> None:
            if (sae := self._saes.get(sae_id)) is not None and sae.held is held:
                del self._saes[sae_id]
            self._ledger.leave(model.held)

        with self._lock:
            try:
                held = self._ledger.reserve(f"SAE {sae_id!r}", needs.sae_bytes, gone)
            except BaseException:
                self._ledger.leave(model.held)
                raise
        try:
            loaded = self._parts.load_sae(spec, entry, model.loaded)
            self._check_same(sae_id, entry, loaded)
        except BaseException:
            self._abandon(held)
            raise
        with self._lock:
            self._saes[sae_id] = _Sae(held, loaded, spec.key)
            return Lease(loaded, lambda: self._leave(held))

    def _model(self, spec: TritonModelSpec, needs: Needs, sae_id: str) -> _Model:
        """The language model, deep enough and with one more user."""

        def gone() -> None:
            if (model := self._models.get(spec.key)) is not None and model.held is held:
                del self._models[spec.key]

        with self._lock:
            known = self._models.get(spec.key)
            deep = known is not None and known.loaded.layer_count >= needs.layer_count
            model_bytes = known.held.bytes if known and deep else needs.model_bytes
            self._ledger.check_possible(f"SAE {sae_id!r}", needs.sae_bytes + model_bytes)
            if known and deep:
                self._ledger.use(known.held)
                return known
            self._retire_model(spec.key)
            held = self._ledger.reserve(f"model {spec.key!r}", needs.model_bytes, gone)
        try:
            loaded = self._parts.load_model(spec, needs.layer_count)
        except BaseException:
            self._abandon(held)
            raise
        with self._lock:
            self._models[spec.key] = model = _Model(held, loaded)
            return model

    def _retire_model(self, key: str) -> None:
        """Let go of a model that is too shallow now, with its SAEs; callers keep what they use."""
        for sae_id, sae in list(self._saes.items()):
            if sae.key == key:
                del self._saes[sae_id]
                self._ledger.retire(sae.held)
        if (model := self._models.pop(key, None)) is not None:
            self._ledger.retire(model.held)

    def _check_same(self, sae_id: str, entry: TritonSae, loaded: LoadedSae) -> None:
        known = self._seen.setdefault(sae_id, entry.fingerprint or loaded.fingerprints.sae)
        if known != loaded.fingerprints.sae:
            raise FailedPrecondition(
                f"SAE {sae_id!r} has weights {loaded.fingerprints.sae}, the registry or an earlier "
                f"load says {known}; other weights need another name",
                reason="FINGERPRINT_MISMATCH",
            )

    def _leave(self, held: Held) -> None:
        with self._lock:
            self._ledger.leave(held)

    def _abandon(self, held: Held) -> None:
        """What was reserved was never loaded."""
        with self._lock:
            self._ledger.retire(held)
            self._ledger.leave(held)


def _sae_of(spec: TritonModelSpec, sae_id: str) -> TritonSae:
    for entry in spec.saes:
        if entry.sae_id == sae_id:
            return entry
    raise NotFound(f"model {spec.key!r} serves no SAE {sae_id!r}", reason="SAE_NOT_FOUND")
