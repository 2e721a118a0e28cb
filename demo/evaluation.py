"""What the SAE's card says, measured on held-out text.

Explained variance is 1 - sum |x - x'|^2 / sum |x - mean|^2 over tokens, position 0 left out.
Cross-entropy is that of the next token in nats, over positions whose activation is replaced.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AutoModelForCausalLM

from demo.corpus_rows import Row
from demo.residual_stream import HOOK_LAYER, CutModel, activation_blocks, padded

DENSITY_EDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True)
class Reconstruction:
    """How well the SAE rebuilds activations, and how often its latents fire."""

    tokens: int
    l0: float
    """Mean active latents per token."""
    explained_variance: float
    explained_variance_median_token: float
    """The same per token, its median: not moved by a few tokens with huge norms."""
    firing_counts: Float[Tensor, " d_sae"]
    mean_activation: Float[Tensor, " d_in"]

    @property
    def dead_share(self) -> float:
        """Share of latents that never fired on these tokens."""
        return float((self.firing_counts == 0).double().mean())

    def density_histogram(self) -> dict[str, int]:
        """Latents per decade of density (share of tokens where they fire), dead ones apart."""
        density = self.firing_counts / self.tokens
        counted = {"dead": int((density == 0).sum())}
        lower = 0.0
        for upper in DENSITY_EDGES:
            inside = (density > lower) & (density <= upper)
            counted[f"{lower:g}-{upper:g}"] = int(inside.sum())
            lower = upper
        return counted


@dataclass(frozen=True)
class CrossEntropy:
    """Next-token loss in nats with the activation as it is, rebuilt, zeroed, and at its mean."""

    tokens: int
    original: float
    sae: float
    zero_ablated: float
    mean_ablated: float

    @property
    def recovered_of_zero(self) -> float:
        """Share of the loss that zeroing adds which the reconstruction avoids."""
        return (self.zero_ablated - self.sae) / (self.zero_ablated - self.original)

    @property
    def recovered_of_mean(self) -> float:
        """The same against replacing by the mean activation, the harder comparison."""
        return (self.mean_ablated - self.sae) / (self.mean_ablated - self.original)


@torch.inference_mode()
def reconstruction(sae: Any, model: CutModel, rows: Sequence[Row]) -> Reconstruction:
    """Run the SAE on all rows. ``sae`` is a SAELens SAE in float32."""
    blocks = list(activation_blocks(model, rows))
    tokens = sum(map(len, blocks))
    mean = torch.stack([block.double().sum(0) for block in blocks]).sum(0) / tokens
    error = variance = active = 0.0
    counts = torch.zeros(sae.cfg.d_sae)
    shares = []
    for block in blocks:
        features = sae.encode(block)
        errors = (block - sae.decode(features)).double().pow(2).sum(1)
        spreads = (block.double() - mean).pow(2).sum(1)
        error, variance = error + float(errors.sum()), variance + float(spreads.sum())
        active += float((features > 0).sum())
        counts += (features > 0).sum(0)
        shares.append(1 - errors / spreads)
    median = float(torch.cat(shares).median())
    return Reconstruction(
        tokens, active / tokens, 1 - error / variance, median, counts, mean.float()
    )


@torch.inference_mode()
def cross_entropy(
    sae: Any, model_folder: Path, rows: Sequence[Row], mean: Float[Tensor, " d_in"]
) -> CrossEntropy:
    """Run the whole model four times on the rows, replacing the activation after position 0."""
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval()
    replacements: dict[str, Callable[[Tensor], Tensor] | None] = {
        "original": None,
        "sae": lambda x: sae.decode(sae.encode(x)),
        "zero_ablated": torch.zeros_like,
        "mean_ablated": lambda x: mean.expand_as(x),
    }
    losses = {name: _loss(model, rows, change) for name, change in replacements.items()}
    tokens = sum(len(row.token_ids) - 2 for row in rows)
    return CrossEntropy(tokens, **losses)


def _loss(model: Any, rows: Sequence[Row], change: Callable[[Tensor], Tensor] | None) -> float:
    def replace(_module: object, _args: object, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        assert change is not None
        changed = torch.cat([hidden[:, :1], change(hidden[:, 1:])], dim=1)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    layer = model.model.layers[HOOK_LAYER]
    handle = layer.register_forward_hook(replace) if change is not None else None
    total, count = 0.0, 0
    for start in range(0, len(rows), 16):
        batch = sorted(rows, key=lambda row: len(row.token_ids))[start : start + 16]
        ids = padded(batch, model.config.bos_token_id)
        log_probabilities = model(input_ids=ids, use_cache=False).logits.log_softmax(-1)
        for index, row in enumerate(batch):
            last = len(row.token_ids)
            chosen = log_probabilities[index, 1 : last - 1].gather(1, ids[index, 2:last, None])
            total, count = total - float(chosen.double().sum()), count + last - 2
    if handle is not None:
        handle.remove()
    if count == 0 or not math.isfinite(total):
        raise ValueError("the rows give no finite loss")
    return total / count
