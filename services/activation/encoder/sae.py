"""Sparse autoencoders in SAELens' format: what an encoder does with a residual vector.

Every architecture is one row of a table: how pre-activations become activations, and whether a
feature can be computed without the others. Arithmetic is float32 whatever the file holds.
SAELens' own ``encode`` is the reference; the tests compare with it architecture by architecture.

Refused by name: unknown architectures, input normalisations that were not folded into the
weights, and hooks that the language model cannot serve.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from services.activation.encoder.hooks import HookPoint, parse_hook
from services.activation.encoder.sources import SaeSource
from services.common.errors import FailedPrecondition, InvalidArgument, Unimplemented

_NORMALISATIONS = ("none", "layer_norm", "constant_norm_rescale")
_WEIGHTS: Mapping[str, tuple[str, ...]] = {
    "standard": ("W_enc", "b_enc", "W_dec", "b_dec"),
    "jumprelu": ("W_enc", "b_enc", "W_dec", "b_dec", "threshold"),
    "gated": ("W_enc", "b_gate", "b_mag", "r_mag", "W_dec", "b_dec"),
    "topk": ("W_enc", "b_enc", "W_dec", "b_dec"),
    "transcoder": ("W_enc", "b_enc", "W_dec", "b_dec"),
}
"""Supported architectures and the tensors each of them needs."""


@dataclass(frozen=True)
class SaeConfig:
    """What changes an SAE's values, read from ``cfg.json`` and its metadata."""

    architecture: str
    d_in: int
    d_sae: int
    hook: HookPoint
    apply_b_dec_to_input: bool
    normalize_activations: str
    k: int | None
    """Active features per token; TopK only."""
    rescale_acts_by_decoder_norm: bool
    center_input: bool
    """Subtract the mean over the hidden dimension first: the SAE was trained on a model whose
    writing weights TransformerLens had centred."""
    stored_dtype: str

    @property
    def features_are_independent(self) -> bool:
        """Whether chosen features can be computed without the others."""
        return self.architecture != "topk"


class Sae:
    """An SAE ready to encode: float32 tensors and the configuration that explains them."""

    def __init__(
        self, config: SaeConfig, weights: Mapping[str, Tensor], device: str = "cpu"
    ) -> None:
        self.config = config
        self.weights = {
            name: weights[name].to(device=device, dtype=torch.float32).contiguous()
            for name in _WEIGHTS[config.architecture]
        }
        self.decoder_norms: Float[Tensor, " d_sae"] = self.weights["W_dec"].norm(dim=-1)

    @property
    def feature_count(self) -> int:
        """Number of features, d_sae."""
        return self.config.d_sae

    @torch.inference_mode()
    def pre_activations(
        self, hidden: Float[Tensor, "tokens d_in"], features: Int[Tensor, " chosen"] | None = None
    ) -> Float[Tensor, "tokens chosen"]:
        """Encoder output before the nonlinearity (gated: of the gate); all features by default."""
        bias = "b_gate" if self.config.architecture == "gated" else "b_enc"
        pre = self._input(hidden) @ self._columns("W_enc", features) + self._entries(bias, features)
        if self.config.architecture == "topk" and self.config.rescale_acts_by_decoder_norm:
            norms = self.decoder_norms
            pre = pre * (norms if features is None else norms[features])
        return pre

    @torch.inference_mode()
    def encode(
        self, hidden: Float[Tensor, "tokens d_in"], features: Int[Tensor, " chosen"]
    ) -> Float[Tensor, "tokens chosen"]:
        """Activations of chosen features, in the order asked for."""
        if not self.config.features_are_independent:
            return self._topk_columns(hidden, features)
        pre = self.pre_activations(hidden, features)
        return self._nonlinearity(hidden, pre, features)

    @torch.inference_mode()
    def encode_sparse(
        self, hidden: Float[Tensor, "tokens d_in"]
    ) -> tuple[Int[Tensor, " nonzero"], Int[Tensor, " nonzero"], Float[Tensor, " nonzero"]]:
        """All activations above zero as (token, feature, value), by token, then by feature."""
        pre = self.pre_activations(hidden)
        if self.config.architecture == "topk":
            values, indices = torch.topk(pre, k=self._k, dim=-1)
            indices, order = indices.sort(dim=-1)
            values = values.gather(-1, order)
            tokens, slots = (values > 0).nonzero(as_tuple=True)
            return tokens, indices[tokens, slots], values[tokens, slots]
        dense = self._nonlinearity(hidden, pre, None)
        tokens, columns = (dense > 0).nonzero(as_tuple=True)
        return tokens, columns, dense[tokens, columns]

    def check_features(self, features: Int[Tensor, " chosen"]) -> None:
        """Refuse features the SAE does not have.

        Raises:
            InvalidArgument: FEATURE_OUT_OF_RANGE, naming the first one.
        """
        outside = ((features < 0) | (features >= self.feature_count)).nonzero()
        if len(outside):
            index = int(outside[0])
            message = f"feature {int(features[index])} is not in [0, {self.feature_count})"
            raise InvalidArgument(
                message, field=f"features[{index}]", reason="FEATURE_OUT_OF_RANGE"
            )

    @property
    def _k(self) -> int:
        assert self.config.k is not None  # checked when the configuration was read
        return self.config.k

    def _topk_columns(self, hidden: Tensor, features: Tensor) -> Tensor:
        values, indices = torch.topk(self.pre_activations(hidden), k=self._k, dim=-1)
        dense = torch.zeros((len(hidden), self.feature_count), device=hidden.device)
        dense.scatter_(-1, indices, values.relu())
        return dense[:, features]

    def _nonlinearity(self, hidden: Tensor, pre: Tensor, features: Tensor | None) -> Tensor:
        if self.config.architecture == "jumprelu":
            return pre.relu() * (pre > self._entries("threshold", features))
        if self.config.architecture == "gated":
            scale = self._entries("r_mag", features).exp()
            weights = self._columns("W_enc", features) * scale
            magnitude = self._input(hidden) @ weights + self._entries("b_mag", features)
            return magnitude.relu() * (pre > 0)
        return pre.relu()

    def _input(self, hidden: Tensor) -> Tensor:
        x = hidden.to(torch.float32)
        if self.config.center_input:
            x = x - x.mean(dim=-1, keepdim=True)
        if self.config.normalize_activations == "layer_norm":
            x = x - x.mean(dim=-1, keepdim=True)
            x = x / (x.std(dim=-1, keepdim=True) + 1e-5)
        elif self.config.normalize_activations == "constant_norm_rescale":
            x = x * (self.config.d_in**0.5 / x.norm(dim=-1, keepdim=True))
        if self.config.apply_b_dec_to_input and self.config.architecture != "transcoder":
            x = x - self.weights["b_dec"]
        return x

    def _columns(self, name: str, features: Tensor | None) -> Tensor:
        weight = self.weights[name]
        return weight if features is None else weight[:, features]

    def _entries(self, name: str, features: Tensor | None) -> Tensor:
        weight = self.weights[name]
        return weight if features is None else weight[features]


def load_sae(source: SaeSource, *, device: str = "cpu", center_input: bool | None = None) -> Sae:
    """Load an SAE from a folder (``cfg.json`` and ``sae_weights.safetensors``) or through SAELens.

    Args:
        source: Folder, or release and id.
        device: Torch device for the tensors.
        center_input: Overrides what the SAE's metadata says about centring.

    Raises:
        FailedPrecondition: ARTIFACT_CORRUPT where files are missing or do not fit together.
        Unimplemented: UNSUPPORTED for an architecture, normalisation or hook, by its name.
    """
    if source.sae_id is None:
        raw, weights = _read_folder(Path(source.location))
    else:
        raw, weights = _read_release(source.location, source.sae_id)
    config = read_config(raw, center_input=center_input)
    _check_shapes(config, weights)
    return Sae(config, weights, device)


def read_config(raw: Mapping[str, Any], *, center_input: bool | None = None) -> SaeConfig:
    """Read SAELens' configuration dictionary, present layout or the one before version 6."""
    architecture = _architecture(raw)
    metadata = {**raw, **(raw.get("metadata") or {})}
    normalisation = raw.get("normalize_activations") or "none"
    if normalisation not in _NORMALISATIONS:
        raise Unimplemented(
            f"normalize_activations={normalisation!r} has to be folded into the weights first"
        )
    kwargs = metadata.get("model_from_pretrained_kwargs") or {}
    centred = bool(kwargs.get("center_writing_weights", False))
    try:
        k = raw.get("k", (raw.get("activation_fn_kwargs") or {}).get("k"))
        return SaeConfig(
            architecture=architecture,
            d_in=int(raw["d_in"]),
            d_sae=int(raw["d_sae"]),
            hook=parse_hook(str(metadata["hook_name"])),
            apply_b_dec_to_input=bool(raw.get("apply_b_dec_to_input", True)),
            normalize_activations=normalisation,
            k=int(k) if architecture == "topk" else None,
            rescale_acts_by_decoder_norm=bool(raw.get("rescale_acts_by_decoder_norm", False)),
            center_input=centred if center_input is None else center_input,
            stored_dtype=str(raw.get("dtype", "float32")).removeprefix("torch."),
        )
    except (KeyError, TypeError, ValueError) as error:
        message = f"cfg.json of the SAE lacks or garbles {error}"
        raise FailedPrecondition(message, reason="ARTIFACT_CORRUPT") from error


def _architecture(raw: Mapping[str, Any]) -> str:
    architecture = str(raw.get("architecture", "standard"))
    if raw.get("activation_fn_str", raw.get("activation_fn")) == "topk":
        architecture = "topk"
    if architecture not in _WEIGHTS:
        raise Unimplemented(
            f"SAE architecture {architecture!r} is not supported; {', '.join(_WEIGHTS)} are",
            metadata={"architecture": architecture},
        )
    if raw.get("reshape_activations", "none") != "none":
        raise Unimplemented(f"reshape_activations={raw['reshape_activations']!r}")
    return architecture


def _read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from safetensors.torch import load_file

    config_path, weights_path = folder / "cfg.json", folder / "sae_weights.safetensors"
    for path in (config_path, weights_path):
        if not path.is_file():
            raise FailedPrecondition(f"{path} is missing", reason="ARTIFACT_CORRUPT")
    try:
        raw = json.loads(config_path.read_text())
    except ValueError as error:
        raise FailedPrecondition(f"{config_path}: {error}", reason="ARTIFACT_CORRUPT") from error
    return raw, load_file(weights_path)


def _read_release(release: str, sae_id: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from sae_lens import SAE  # seconds of import, paid only where a release is named

    try:
        sae: Any = SAE.from_pretrained(release, sae_id, device="cpu", dtype="float32")
    except (OSError, ValueError) as error:
        message = f"SAELens release {release!r}, SAE {sae_id!r} cannot be loaded: {error}"
        raise FailedPrecondition(message, reason="ARTIFACT_CORRUPT") from error
    return sae.cfg.to_dict(), dict(sae.state_dict())


def _check_shapes(config: SaeConfig, weights: Mapping[str, Tensor]) -> None:
    missing = [name for name in _WEIGHTS[config.architecture] if name not in weights]
    if missing:
        raise FailedPrecondition(
            f"the SAE's file lacks {', '.join(missing)}", reason="ARTIFACT_CORRUPT"
        )
    shape, expected = tuple(weights["W_enc"].shape), (config.d_in, config.d_sae)
    if shape != expected:
        raise FailedPrecondition(
            f"W_enc is {shape}, cfg.json says {expected}", reason="ARTIFACT_CORRUPT"
        )
