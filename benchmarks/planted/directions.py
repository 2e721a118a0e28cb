"""Directions on the residual stream: fitted to concepts, or drawn at random.

Every direction becomes a JumpReLU feature, `z = w·x + b` where it exceeds 1, else 0. The
scale puts the middle of what fires at 1.5, so that firing nearly coincides with reaching
half of the reference maximum.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.planted.material import HOOK, Bools, Halves

Floats = NDArray[np.float32]

JUMP, MIDDLE = 1.0, 1.5
PENALTIES = (1e-5, 1e-4)
"""Weights of the squared norm that compete on the validation part."""
VALIDATION_SHARE = 0.25
_STEPS = 60
_EPSILON = 1e-3


@dataclass(frozen=True)
class Directions:
    """F features over d dimensions.

    Attributes:
        weights: shape [d, F].
        bias: shape [F].
        agreement: token F1 of firing against the concept on the validation part, shape
            [F]; NaN where there is no concept.
    """

    weights: Floats
    bias: Floats
    agreement: Floats

    def joined(self, other: Directions) -> Directions:
        """These, then the others."""
        return Directions(
            np.concatenate([self.weights, other.weights], axis=1),
            np.concatenate([self.bias, other.bias]),
            np.concatenate([self.agreement, other.agreement]),
        )

    def take(self, features: list[int]) -> Directions:
        """Some of them, without the agreement: they get another meaning."""
        unknown = np.full(len(features), np.nan, np.float32)
        return Directions(self.weights[:, features], self.bias[features], unknown)


def fit_concepts(hidden: Halves, labels: Bools) -> Directions:
    """One logistic probe per concept; penalty and threshold chosen on the last quarter of
    the tokens, which are other documents.

    Args:
        hidden: shape [N, d], in corpus order.
        labels: shape [N, concepts].
    """
    cut = int(len(hidden) * (1 - VALIDATION_SHARE))
    mean, spread = _moments(hidden[:cut])
    inputs = (torch.from_numpy(hidden.astype(np.float32)) - mean) / spread
    wanted = torch.from_numpy(labels.astype(np.float32))
    fits = [_logistic(inputs[:cut], wanted[:cut], penalty) for penalty in PENALTIES]
    logits = [(inputs @ w + b).numpy() for w, b in fits]
    columns = []
    for concept in range(labels.shape[1]):
        scored = [_best_threshold(z[cut:, concept], labels[cut:, concept]) for z in logits]
        best = int(np.argmax([f1 for f1, _ in scored]))
        f1, threshold = scored[best]
        w, b = fits[best]
        columns.append(
            _jumping(
                w[:, concept] / spread,
                float(b[concept] - (mean / spread) @ w[:, concept]),
                logits[best][:, concept],
                threshold,
                f1,
            )
        )
    return _stacked(columns)


def random_directions(hidden: Halves, densities: list[float], seed: int) -> Directions:
    """Gaussian directions over standardised dimensions, each with the threshold that gives
    its wanted density on these hidden states."""
    mean, spread = _moments(hidden)
    inputs = (hidden.astype(np.float32) - mean.numpy()) / spread.numpy()
    drawn = np.random.default_rng(seed).standard_normal((len(densities), inputs.shape[1]))
    columns = []
    for w, density in zip(drawn.astype(np.float32), densities, strict=True):
        logits = inputs @ w
        threshold = float(np.quantile(logits, 1 - density))
        scaled = torch.from_numpy(w) / spread
        columns.append(_jumping(scaled, -float(mean @ scaled), logits, threshold, float("nan")))
    return _stacked(columns)


def save_sae(directions: Directions, folder: Path) -> None:
    """A JumpReLU SAE in SAELens' format."""
    weights = torch.from_numpy(directions.weights).contiguous()
    width, count = weights.shape
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {
            "W_enc": weights,
            "b_enc": torch.from_numpy(directions.bias),
            "W_dec": torch.nn.functional.normalize(weights.T, dim=1).contiguous(),
            "b_dec": torch.zeros(width),
            "threshold": torch.full((count,), JUMP),
        },
        folder / "sae_weights.safetensors",
    )
    config = {
        "architecture": "jumprelu",
        "d_in": width,
        "d_sae": count,
        "dtype": "float32",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "metadata": {"hook_name": HOOK},
    }
    (folder / "cfg.json").write_text(json.dumps(config))


def _moments(hidden: Halves) -> tuple[Tensor, Tensor]:
    values = torch.from_numpy(hidden.astype(np.float32))
    return values.mean(dim=0), values.std(dim=0) + _EPSILON


def _logistic(inputs: Tensor, wanted: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """All probes at once; weights [d, C] and biases [C]."""
    rates = wanted.mean(dim=0).clamp(1e-6, 1 - 1e-6)
    w = torch.zeros(inputs.shape[1], wanted.shape[1], requires_grad=True)
    b = torch.logit(rates).clone().requires_grad_(True)
    optimizer = torch.optim.LBFGS([w, b], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        errors = binary_cross_entropy_with_logits(inputs @ w + b, wanted, reduction="none")
        total = errors.mean(dim=0).sum() + penalty * w.square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    return w.detach(), b.detach()


def _best_threshold(logits: Floats, labels: Bools) -> tuple[float, float]:
    """The best F1 and a threshold that reaches it."""
    order = np.argsort(-logits, kind="stable")
    hits = np.cumsum(labels[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + max(int(labels.sum()), 1))
    best = int(f1.argmax())
    return float(f1[best]), float(logits[order[best]])


def _jumping(
    weights: Tensor, bias: float, logits: Floats, threshold: float, f1: float
) -> tuple[Floats, float, float]:
    """Weights and bias scaled so that the threshold is at 1 and the middle at 1.5."""
    fired = logits[logits >= threshold]
    scale = (MIDDLE - JUMP) / max(float(np.median(fired)) - threshold, 1e-6)
    return (weights * scale).numpy(), JUMP + (bias - threshold) * scale, f1


def _stacked(columns: list[tuple[Floats, float, float]]) -> Directions:
    weights, bias, f1 = zip(*columns, strict=True)
    return Directions(
        np.stack(weights, axis=1).astype(np.float32),
        np.array(bias, np.float32),
        np.array(f1, np.float32),
    )
