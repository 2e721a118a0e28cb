"""Standard SAE: a linear encoder and ReLU."""

from __future__ import annotations

from torch import Tensor

from services.activation.encoder.saes.base import Sae


class StandardSae(Sae):
    """``relu(x W_enc + b_enc)``."""

    def _activate(self, x: Tensor, pre: Tensor, features: Tensor | None) -> Tensor:
        return pre.relu()
