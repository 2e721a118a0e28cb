"""What a text's values are, by TransformerLens and SAELens, one unpadded row at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from services.activation.encoder.rows import TokenRow

ROW_LENGTHS = (3, 41, 2, 17, 90, 29, 8, 64, 40)
"""Mixed, so that padding would show, and longer than the sliding window."""


def random_rows(vocabulary: int, seed: int = 0) -> list[TokenRow]:
    """Rows of mixed lengths that begin with token 1."""
    rng = np.random.default_rng(seed)
    return [
        np.array([1, *rng.integers(2, vocabulary, length - 1)], dtype=np.int64)
        for length in ROW_LENGTHS
    ]


class LensStates:
    """Tensors at every place of a TransformerLens model, for rows run alone."""

    def __init__(self, lens: Any, rows: Sequence[TokenRow]) -> None:
        self._states: dict[str, list[Tensor]] = {}
        for row in rows:
            for name, tensor in _run(lens, torch.from_numpy(row)[None]).items():
                self._states.setdefault(name, []).append(tensor[0])

    def __contains__(self, name: str) -> bool:
        return name in self._states

    def flat(self, name: str) -> Float[Tensor, "tokens width"]:
        """All rows' tokens at a place, heads side by side."""
        return torch.cat([state.flatten(1) for state in self._states[name]])

    def raw(self, name: str) -> Tensor:
        """All rows' tokens at a place; heads apart, as SAELens' ``hook_z`` reshaping wants them."""
        return torch.cat(self._states[name])


@torch.no_grad()
def _run(lens: Any, ids: Tensor) -> dict[str, Tensor]:
    """A forward pass; what goes into and comes out of each MLP module is read off the module."""
    found: dict[str, Tensor] = {}
    handles = []
    for number, block in enumerate(lens.blocks):

        def take(_module: Any, args: Any, output: Any, layer: int = number) -> None:
            found[f"blocks.{layer}.mlp.hook_in"] = args[0]
            found[f"blocks.{layer}.mlp.hook_out"] = output

        handles.append(block.mlp.register_forward_hook(take))
    _, cache = lens.run_with_cache(ids)
    for handle in handles:
        handle.remove()
    return {**dict(cache), **found}


@dataclass(frozen=True)
class Values:
    """Pre-activations and activations, [tokens, features]."""

    pre: NDArray[np.float32]
    activations: NDArray[np.float32]


@torch.no_grad()
def sae_lens_values(sae: Any, states: Tensor) -> Values:
    """SAELens' encoder on given states."""
    x = sae.process_sae_in(states.flatten(1) if sae.cfg.reshape_activations == "none" else states)
    bias = sae.b_gate if getattr(sae, "b_gate", None) is not None else sae.b_enc
    pre = x @ sae.W_enc + bias
    if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):
        pre = pre * sae.W_dec.norm(dim=-1)
    reshaped = states if sae.cfg.reshape_activations == "hook_z" else states.flatten(1)
    return Values(pre.numpy(), sae.encode(reshaped).numpy())
