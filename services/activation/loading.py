"""From the registry to loaded models and SAEs."""

from __future__ import annotations

from pathlib import Path

import torch

from services.activation.encoder.backend import EncoderLimits
from services.activation.encoder.memory import machine_bytes
from services.activation.registry import Registry
from services.activation.store import SaeStore
from services.activation.triton.repository import TritonModelSpec, TritonSae

_DEFAULT_SHARE = 0.7
"""Of the memory that the process may use; the rest is for Python, indexes and answers."""


def model_spec(
    registry: Registry,
    model: str,
    cache_dir: Path,
    device: str,
    limits: EncoderLimits,
    memory_budget_bytes: int = 0,
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
        dtype=registry.models[model].compute_dtype,
        bos_token=registry.models[model].bos_token,
        limits=limits,
        memory_budget_bytes=memory_budget_bytes or default_budget_bytes(device),
    )


def model_specs(
    registry: Registry,
    cache_dir: Path,
    device: str,
    limits: EncoderLimits,
    memory_budget_bytes: int = 0,
) -> list[TritonModelSpec]:
    """Every language model that has an SAE. Each is a process of its own and gets an equal share
    of the budget."""
    used = sorted({entry.model for entry in registry.saes.values()})
    share = (memory_budget_bytes or default_budget_bytes(device)) // len(used)
    return [model_spec(registry, model, cache_dir, device, limits, share) for model in used]


def default_budget_bytes(device: str) -> int:
    """A share of the memory that this process may use: the machine's or the GPU's."""
    if device.startswith("cuda"):
        _, total = torch.cuda.mem_get_info(device)
        return int(total * _DEFAULT_SHARE)
    return int(machine_bytes() * _DEFAULT_SHARE)


class RegistryLoader(SaeStore):
    """A store over a registry: whatever it names is loaded when first asked for.

    Args:
        registry: Models and SAEs.
        cache_dir: Converted models.
        device: Torch device.
        limits: Of the backend; they size the workspace.
        memory_budget_bytes: For weights and workspaces; 0 for a share of the machine's or GPU's.

    Raises, when called:
        NotFound: SAE_NOT_FOUND.
        FailedPrecondition: FINGERPRINT_MISMATCH, other weights than the registry pins or than
            were loaded before; MEMORY_EXHAUSTED; and whatever loading raises.
    """

    def __init__(
        self,
        registry: Registry,
        cache_dir: Path,
        device: str,
        limits: EncoderLimits,
        memory_budget_bytes: int = 0,
    ) -> None:
        budget = memory_budget_bytes or default_budget_bytes(device)

        def spec_of(sae_id: str) -> TritonModelSpec:
            model = registry.sae(sae_id).model
            return model_spec(registry, model, cache_dir, device, limits, budget)

        super().__init__(spec_of, budget)
