"""Shapes of models and SAEs that are not loaded: configurations and file headers are read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.activation.encoder.memory import ModelShape, SaeShape
from services.activation.encoder.model import cut_config
from services.activation.encoder.sae import read_config
from services.activation.encoder.saes.releases import check_readable
from services.activation.encoder.sources import ModelSource, SaeSource
from services.common.errors import FailedPrecondition


def model_shape(source: ModelSource, layer_count: int) -> ModelShape:
    """The first ``layer_count`` blocks of a model, counted on a device that holds no numbers.

    Raises:
        FailedPrecondition: ARTIFACT_CORRUPT, STATE_CONFLICT; as loading does.
        Unimplemented: UNSUPPORTED for a family that is not known.
    """
    import torch
    from transformers import AutoModelForCausalLM

    factory: Any = AutoModelForCausalLM
    config = cut_config(source, layer_count)
    with torch.device("meta"):
        model = factory.from_config(config)
    text: Any = config.get_text_config()
    hidden = int(text.hidden_size)
    return ModelShape(
        parameter_count=sum(parameter.numel() for parameter in model.parameters()),
        hidden_size=hidden,
        mlp_size=int(getattr(text, "intermediate_size", 0) or 4 * hidden),
        head_count=int(text.num_attention_heads),
    )


def sae_shape(source: SaeSource) -> SaeShape:
    """An SAE's sizes: from its file's header, or for a release from its configuration.

    Raises:
        FailedPrecondition: ARTIFACT_CORRUPT where nothing can be read.
        Unimplemented: UNSUPPORTED; as loading does.
    """
    if source.sae_id is None:
        return _folder_shape(Path(source.location))
    return _release_shape(source.location, source.sae_id)


def _folder_shape(folder: Path) -> SaeShape:
    from safetensors import SafetensorError, safe_open

    try:
        raw = json.loads((folder / "cfg.json").read_text(encoding="utf-8"))
        with safe_open(folder / "sae_weights.safetensors", framework="pt") as file:
            sizes = [math.prod(file.get_slice(name).get_shape()) for name in file.keys()]  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError, ValueError) as error:
        raise _corrupt(f"{folder} has no readable SAE: {error}") from error
    return _shape(raw, sum(sizes))


def _release_shape(release: str, sae_id: str) -> SaeShape:
    # Seconds of import, paid only where a release is named.
    from sae_lens.loading.pretrained_sae_loaders import load_sae_config_from_huggingface

    check_readable(release)
    try:
        raw = load_sae_config_from_huggingface(release, sae_id)
        d_in, d_sae = int(raw["d_in"]), int(raw["d_sae"])
        d_out = int(raw.get("d_out") or d_in)
    except (OSError, KeyError, ValueError, TypeError) as error:
        message = f"SAELens release {release!r}, SAE {sae_id!r} cannot be read: {error}"
        raise _corrupt(message) from error
    # Encoder and decoder, and of every architecture no more than four numbers per feature.
    return _shape(raw, d_sae * (d_in + d_out + 4) + d_out)


def _shape(raw: Mapping[str, Any], parameter_count: int) -> SaeShape:
    config = read_config(raw)
    return SaeShape(parameter_count, config.d_sae, config.d_in, config.hook.layer_count)


def _corrupt(message: str) -> FailedPrecondition:
    return FailedPrecondition(message, reason="ARTIFACT_CORRUPT")
