"""Loads what a Triton model serves: one language model, and SAEs as they are asked for."""

from __future__ import annotations

from services.activation.encoder.allocator import keep_freed_memory
from services.activation.encoder.batcher import Batcher
from services.activation.store import SaeStore
from services.activation.triton.executor import Executor
from services.activation.triton.repository import TritonModelSpec
from services.common.errors import NotFound


def store_of(spec: TritonModelSpec) -> SaeStore:
    """The SAEs of one specification. Raises NotFound (SAE_NOT_FOUND) for any other."""
    known = {entry.sae_id for entry in spec.saes}

    def spec_of(sae_id: str) -> TritonModelSpec:
        if sae_id not in known:
            raise NotFound(f"the Triton model serves no SAE {sae_id!r}", reason="SAE_NOT_FOUND")
        return spec

    return SaeStore(spec_of, spec.memory_budget_bytes)


def executor_of(spec: TritonModelSpec) -> Executor:
    """The executor of a specification, with its first SAE loaded so that errors show at once.

    For a process of its own: how its memory is kept is settled here.
    """
    keep_freed_memory()
    store = store_of(spec)
    if spec.saes:
        store(spec.saes[0].sae_id)
    return Executor(store, Batcher(spec.limits), spec.limits)
