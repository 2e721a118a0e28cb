"""Gated SAE (Rajamanoharan et al., arXiv:2404.16014): one path decides, the other measures."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from services.activation.encoder.saes.base import Sae


class GatedSae(Sae):
    """``relu(x W_mag + b_mag)`` where ``x W_enc + b_gate`` exceeds 0, else 0.

    ``W_mag`` is ``W_enc`` with each column scaled by ``exp(r_mag)``; pre-activations are those of
    the gate.
    """

    weight_names: ClassVar[tuple[str, ...]] = (
        "W_enc",
        "b_gate",
        "b_mag",
        "r_mag",
        "W_dec",
        "b_dec",
    )

    def _pre_activations(self, x: Tensor, features: Tensor | None) -> Tensor:
        return x @ self._columns("W_enc", features) + self._entries("b_gate", features)

    def _activate(self, x: Tensor, pre: Tensor, features: Tensor | None) -> Tensor:
        # From the gate's product: the two paths share W_enc, and (x W) e^r = x (W e^r).
        product = pre - self._entries("b_gate", features)
        magnitude = product * self._entries("r_mag", features).exp()
        return (magnitude + self._entries("b_mag", features)).relu() * (pre > 0)
