"""JumpReLU SAE (Rajamanoharan et al., arXiv:2407.14435): ReLU that is 0 up to a threshold."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from services.activation.encoder.saes.base import Sae


class JumpReluSae(Sae):
    """``relu(pre)`` where ``pre`` exceeds the feature's threshold, else 0."""

    weight_names: ClassVar[tuple[str, ...]] = (*Sae.weight_names, "threshold")

    def _activate(self, x: Tensor, pre: Tensor, features: Tensor | None) -> Tensor:
        return pre.relu() * (pre > self._entries("threshold", features))
