"""Random SAEs of every architecture in SAELens' folder format, sized to what they will read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

FEATURES, K = 64, 8


@dataclass(frozen=True)
class Kind:
    """One architecture with settings that change its values."""

    architecture: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """For tables."""
        return " ".join([self.architecture, *(f"{k}={v}" for k, v in self.settings.items())])


KINDS: tuple[Kind, ...] = (
    Kind("standard"),
    Kind("standard", {"normalize_activations": "layer_norm"}),
    Kind("standard", {"normalize_activations": "constant_norm_rescale"}),
    Kind("standard", {"normalize_activations": "expected_average_only_in"}),
    Kind("standard", {"apply_b_dec_to_input": False}),
    Kind("gated"),
    Kind("jumprelu"),
    Kind("topk"),
    Kind("topk", {"rescale_acts_by_decoder_norm": True}),
    Kind("batchtopk"),
    Kind("matryoshka_batchtopk"),
    Kind("transcoder"),
    Kind("skip_transcoder"),
    Kind("jumprelu_transcoder"),
    Kind("jumprelu_skip_transcoder"),
)
"""Every architecture, and every setting once."""

SCALING_FACTOR = 0.5
"""Of ``expected_average_only_in``."""


def write_sae(
    folder: Path,
    kind: Kind,
    hook: str,
    sample: Float[Tensor, "tokens d_in"],
    *,
    seed: int = 0,
    processing: Mapping[str, Any] | None = None,
) -> Path:
    """An SAE whose pre-activations on ``sample`` are of order 1, so that some of them fire."""
    d_in = sample.shape[-1]
    transcodes = kind.architecture.endswith("transcoder")
    metadata: dict[str, Any] = {
        "hook_name": hook,
        "model_name": "random",
        "sae_lens_version": "6.54.12",
        "prepend_bos": True,
        "model_from_pretrained_kwargs": dict(processing or {}),
    }
    config = {
        "architecture": kind.architecture,
        "d_in": d_in,
        "d_sae": FEATURES,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": not transcodes,
        "normalize_activations": "none",
        "reshape_activations": "hook_z" if hook.endswith("hook_z") and not transcodes else "none",
        "metadata": metadata,
        **({"d_out": d_in} if transcodes else {}),
        **({"k": K, "rescale_acts_by_decoder_norm": False} if "topk" in kind.architecture else {}),
        **({"matryoshka_widths": [16, FEATURES]} if "matryoshka" in kind.architecture else {}),
        **kind.settings,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cfg.json").write_text(json.dumps(config))
    scaler = {"scaling_factor": SCALING_FACTOR}
    (folder / "activation_scaler.json").write_text(json.dumps(scaler))
    spread = _spread(sample, str(config["normalize_activations"]))
    save_file(_weights(kind.architecture, d_in, spread, seed), folder / "sae_weights.safetensors")
    return folder


def _spread(sample: Float[Tensor, "tokens d_in"], normalisation: str) -> float:
    """Size of what the encoder's matrix reads."""
    if normalisation in ("layer_norm", "constant_norm_rescale"):
        return 1.0
    scale = SCALING_FACTOR if normalisation == "expected_average_only_in" else 1.0
    return float(sample.std()) * scale


def _weights(architecture: str, d_in: int, spread: float, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(*shape, generator=generator) * scale

    lengths = 0.5 + torch.rand(FEATURES, 1, generator=generator)
    weights = {
        "W_enc": normal(d_in, FEATURES, scale=1 / (spread * d_in**0.5)),
        "W_dec": normal(FEATURES, d_in) * lengths,
        "b_dec": normal(d_in, scale=0.1 * spread),
    }
    if architecture == "gated":
        weights.update({n: normal(FEATURES, scale=0.3) for n in ("b_gate", "b_mag", "r_mag")})
    else:
        weights["b_enc"] = normal(FEATURES, scale=0.3)
    if architecture.startswith("jumprelu"):
        weights["threshold"] = normal(FEATURES, scale=0.5).abs()
    if architecture.endswith("batchtopk"):
        weights["topk_threshold"] = torch.tensor(0.7, dtype=torch.float64)
    if architecture.endswith("skip_transcoder"):
        weights["W_skip"] = normal(d_in, d_in)
    return weights


def load_reference(folder: Path) -> Any:
    """The SAE as SAELens loads it; training checkpoints are saved for inference first, and the
    factor of scaled inputs is folded as its trainer does."""
    from sae_lens import SAE, TrainingSAE

    config = json.loads((folder / "cfg.json").read_text())
    if config["architecture"].endswith("batchtopk"):
        inference = folder / "inference"
        TrainingSAE.load_from_disk(folder).save_inference_model(inference)
        return SAE.load_from_disk(inference)
    sae = SAE.load_from_disk(folder)
    if config["normalize_activations"] == "expected_average_only_in":
        sae.fold_activation_norm_scaling_factor(SCALING_FACTOR)
    return sae
