"""What every SAE can do: encode residual vectors, all features or chosen ones.

Arithmetic is float32 whatever the file holds. SAELens' own ``encode`` is the reference; the
tests compare with it architecture by architecture.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from services.activation.encoder.saes.config import SaeConfig
from services.common.errors import FailedPrecondition, InvalidArgument

_DECODE_ONLY = frozenset({"scaling_factor", "finetuning_scaling_factor", "W_skip"})
"""Tensors that change reconstructions and no activation."""


class Sae(ABC):
    """An SAE ready to encode: float32 tensors and the configuration that explains them.

    Args:
        config: What changes values.
        weights: Tensors by name; other types are converted.
        device: Torch device for the tensors.

    Raises:
        FailedPrecondition: ARTIFACT_CORRUPT where tensors are missing, unknown or of other sizes
            than ``config`` says.
    """

    weight_names: ClassVar[tuple[str, ...]] = ("W_enc", "b_enc", "W_dec", "b_dec")
    """Tensors that this architecture needs."""
    reads_b_dec: ClassVar[bool] = True
    """Whether ``apply_b_dec_to_input`` means anything."""

    def __init__(
        self, config: SaeConfig, weights: Mapping[str, Tensor], device: str | torch.device = "cpu"
    ) -> None:
        self.config = config
        self._check(weights)
        self.weights = {
            name: weights[name].to(device=device, dtype=torch.float32).contiguous()
            for name in self.weight_names
        }
        self.decoder_norms: Float[Tensor, " d_sae"] = self.weights["W_dec"].norm(dim=-1)

    @property
    def feature_count(self) -> int:
        """Number of features, d_sae."""
        return self.config.d_sae

    def with_config(self, **changes: Any) -> Self:
        """The same weights under a changed configuration."""
        device = self.weights["W_enc"].device
        return type(self)(replace(self.config, **changes), self.weights, device)

    @torch.inference_mode()
    def pre_activations(
        self, hidden: Float[Tensor, "tokens width"], features: Int[Tensor, " chosen"] | None = None
    ) -> Float[Tensor, "tokens chosen"]:
        """Encoder output before the nonlinearity (gated: of the gate); all features by default."""
        return self._pre_activations(self._input(hidden), features)

    @torch.inference_mode()
    def encode(
        self, hidden: Float[Tensor, "tokens width"], features: Int[Tensor, " chosen"] | None = None
    ) -> Float[Tensor, "tokens chosen"]:
        """Activations of chosen features, in the order asked for; all of them by default."""
        x = self._input(hidden)
        return self._activate(x, self._pre_activations(x, features), features)

    @torch.inference_mode()
    def encode_sparse(
        self, hidden: Float[Tensor, "tokens width"]
    ) -> tuple[Int[Tensor, " nonzero"], Int[Tensor, " nonzero"], Float[Tensor, " nonzero"]]:
        """All activations above zero as (token, feature, value), by token, then by feature."""
        dense = self.encode(hidden)
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

    @abstractmethod
    def _activate(self, x: Tensor, pre: Tensor, features: Tensor | None) -> Tensor:
        """The nonlinearity: activations of the features that ``pre`` holds."""

    def _pre_activations(self, x: Tensor, features: Tensor | None) -> Tensor:
        return x @ self._columns("W_enc", features) + self._entries("b_enc", features)

    def _input(self, hidden: Tensor) -> Float[Tensor, "tokens d_in"]:
        config = self.config
        x = hidden.to(torch.float32)
        if config.head_index is not None:
            start = config.head_index * config.d_in
            x = x[:, start : start + config.d_in]
        if config.center_input:
            x = x - x.mean(dim=-1, keepdim=True)
        if config.normalize_activations == "layer_norm":
            x = x - x.mean(dim=-1, keepdim=True)
            x = x / (x.std(dim=-1, keepdim=True) + 1e-5)
        elif config.normalize_activations == "constant_norm_rescale":
            x = x * (config.d_in**0.5 / x.norm(dim=-1, keepdim=True))
        if config.apply_b_dec_to_input and self.reads_b_dec:
            x = x - self.weights["b_dec"]
        return x

    def _columns(self, name: str, features: Tensor | None) -> Tensor:
        weight = self.weights[name]
        return weight if features is None else weight[:, features]

    def _entries(self, name: str, features: Tensor | None) -> Tensor:
        weight = self.weights[name]
        return weight if features is None else weight[features]

    def _check(self, weights: Mapping[str, Tensor]) -> None:
        missing = [name for name in self.weight_names if name not in weights]
        if missing:
            raise _corrupt(f"the SAE's file lacks {', '.join(missing)}")
        unknown = sorted(set(weights) - set(self.weight_names) - _DECODE_ONLY)
        if unknown:
            raise _corrupt(
                f"{', '.join(unknown)} in the SAE's file mean nothing for a "
                f"{self.config.architecture} SAE, which has {', '.join(self.weight_names)}"
            )
        d_in, d_sae = self.config.d_in, self.config.d_sae
        d_out = weights["W_dec"].shape[-1] if not self.reads_b_dec else d_in
        expected = {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_out), "b_dec": (d_out,)}
        for name in self.weight_names:
            shape = tuple(weights[name].shape)
            if shape != expected.get(name, (d_sae,)):
                raise _corrupt(f"{name} is {shape}, cfg.json says {expected.get(name, (d_sae,))}")
            if not bool(torch.isfinite(weights[name]).all()):
                raise _corrupt(f"{name} holds values that are not finite")


def _corrupt(message: str) -> FailedPrecondition:
    return FailedPrecondition(message, reason="ARTIFACT_CORRUPT")
