"""SAEs in SAELens' format: from a folder or a release to an encoder.

Weights are read from safetensors only, and from plain number arrays where a release has no
others: a pickled file can run code while it is read. Refused by name: unknown architectures,
settings and hooks, see :mod:`services.activation.encoder.saes`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from services.activation.encoder.saes import releases, scaling
from services.activation.encoder.saes.base import Sae
from services.activation.encoder.saes.config import SaeConfig, read_config
from services.activation.encoder.saes.registry import architecture
from services.activation.encoder.sources import SaeSource
from services.common.errors import FailedPrecondition

__all__ = ["Sae", "SaeConfig", "load_sae", "read_config"]


def load_sae(source: SaeSource, *, device: str = "cpu", center_input: bool | None = None) -> Sae:
    """Load an SAE from a folder (``cfg.json`` and ``sae_weights.safetensors``) or through SAELens.

    Args:
        source: Folder, or release and id.
        device: Torch device for the tensors.
        center_input: Overrides what the SAE's metadata says about centring.

    Raises:
        FailedPrecondition: ARTIFACT_CORRUPT where files are missing or do not fit together.
        Unimplemented: UNSUPPORTED for an architecture, setting, hook or file format, by its name.
    """
    if source.sae_id is None:
        folder = Path(source.location)
        raw = _read_json(folder / "cfg.json")
        factor = scaling.scaling_factor(raw, folder)
        return _build(raw, _read_weights(folder), factor, device, center_input)
    raw, weights = releases.read(source.location, source.sae_id)
    return _build(raw, weights, scaling.scaling_factor(raw, None), device, center_input)


def _build(
    raw: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    factor: float | None,
    device: str,
    center_input: bool | None,
) -> Sae:
    config = read_config(raw, center_input=center_input)
    kind = architecture(config.architecture)
    folded: Mapping[str, Tensor] = scaling.fold(config, weights, factor)
    if config.normalize_activations in scaling.SCALED:
        config = replace(config, normalize_activations="none")
    if kind.prepare is not None:
        folded = kind.prepare(config, folded)
    return kind.encoder(config, folded, device)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise _corrupt(f"{path} is missing") from error
    except (OSError, ValueError) as error:
        raise _corrupt(f"{path}: {error}") from error
    if not isinstance(raw, dict):
        raise _corrupt(f"{path} is not an object")
    return raw


def _read_weights(folder: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / "sae_weights.safetensors"
    if not path.is_file():
        raise _corrupt(f"{path} is missing")
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise _corrupt(f"{path}: {error}") from error


def _corrupt(message: str) -> FailedPrecondition:
    return FailedPrecondition(message, reason="ARTIFACT_CORRUPT")
