"""From the registry to loaded models and SAEs."""

from __future__ import annotations

import threading
from pathlib import Path

from services.activation.encoder.backend import EncoderLimits
from services.activation.encoder.inprocess import LoadedSae
from services.activation.registry import Registry
from services.activation.triton.loading import SpecLoader
from services.activation.triton.repository import TritonModelSpec, TritonSae
from services.common.errors import FailedPrecondition


def model_spec(
    registry: Registry, model: str, cache_dir: Path, device: str, limits: EncoderLimits
) -> TritonModelSpec:
    """One language model of a registry with all its SAEs, as one Triton model serves it."""
    return TritonModelSpec(
        key=model,
        model=registry.model_source(model, cache_dir),
        saes=tuple(
            TritonSae(name, entry.source, entry.center_input, entry.fingerprint)
            for name, entry in sorted(registry.saes.items())
            if entry.model == model
        ),
        device=device,
        bos_token=registry.models[model].bos_token,
        batch_token_budget=limits.batch_token_budget,
        max_features=limits.max_features,
    )


def model_specs(
    registry: Registry, cache_dir: Path, device: str, limits: EncoderLimits
) -> list[TritonModelSpec]:
    """Every language model that has an SAE."""
    used = sorted({entry.model for entry in registry.saes.values()})
    return [model_spec(registry, model, cache_dir, device, limits) for model in used]


class RegistryLoader:
    """A ``SaeLoader`` over a registry: models and SAEs are loaded when first asked for.

    Safe to call from many threads; while one loads, the others wait.
    """

    def __init__(
        self, registry: Registry, cache_dir: Path, device: str, limits: EncoderLimits
    ) -> None:
        self._registry = registry
        self._cache_dir = cache_dir
        self._device = device
        self._limits = limits
        self._loaders: dict[str, SpecLoader] = {}
        self._lock = threading.Lock()

    def __call__(self, sae_id: str) -> LoadedSae:
        """Load or find one SAE with its model.

        Raises:
            NotFound: SAE_NOT_FOUND.
            FailedPrecondition: FINGERPRINT_MISMATCH, other weights than the registry pins or
                than were loaded before; and whatever loading raises.
        """
        entry = self._registry.sae(sae_id)
        with self._lock:
            if entry.model not in self._loaders:
                spec = model_spec(
                    self._registry, entry.model, self._cache_dir, self._device, self._limits
                )
                self._loaders[entry.model] = SpecLoader(spec)
            loaded = self._loaders[entry.model](sae_id)
        if entry.fingerprint not in (None, loaded.fingerprints.sae):
            raise FailedPrecondition(
                f"SAE {sae_id!r} has fingerprint {loaded.fingerprints.sae}, the registry pins "
                f"{entry.fingerprint}",
                reason="FINGERPRINT_MISMATCH",
            )
        return loaded
