"""What has nothing to explain: shuffled activations and a model with random weights."""

from __future__ import annotations

import json
import shutil
import zlib
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.planted.material import HOOK, Halves, hook
from services.activation.encoder.rows import SparseRow, TokenRow
from services.activation.index.sweep import SparseEncoder

_STEPS, _ROWS, _RATE = 500, 1_024, 2e-3
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


class Shuffling:
    """An encoder that permutes some features' values among the tokens of each row.

    Args:
        encoder: whose values.
        features: which of its features are permuted.
        seed: with the row's own tokens it decides the permutation.
    """

    def __init__(self, encoder: SparseEncoder, features: list[int], seed: int) -> None:
        self._encoder = encoder
        self._features = features
        self._seed = seed

    @property
    def feature_count(self) -> int:
        """As of the encoder."""
        return self._encoder.feature_count

    def encode_sparse(self, rows: list[TokenRow]) -> list[SparseRow]:
        """The encoder's rows, with the chosen features' values at other tokens."""
        encoded = self._encoder.encode_sparse(rows)
        return [self._shuffled(row, r) for row, r in zip(rows, encoded, strict=True)]

    def _shuffled(self, row: TokenRow, encoded: SparseRow) -> SparseRow:
        rng = np.random.default_rng([self._seed, zlib.crc32(row.tobytes())])
        tokens = np.repeat(np.arange(len(row)), np.diff(encoded.indptr))
        for feature in self._features:
            target = np.concatenate([[0], 1 + rng.permutation(len(row) - 1)])
            mine = encoded.features == feature
            tokens[mine] = target[tokens[mine]]
        order = np.lexsort((encoded.features, tokens))
        counts = np.bincount(tokens, minlength=len(row))
        return SparseRow(
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            encoded.features[order],
            encoded.values[order],
        )


def save_random_model(source: Path, target: Path, seed: int) -> None:
    """The architecture of `source` as far as the hook, with weights as they are initialised
    before training, and the same tokenizer."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(str(source))
    config.num_hidden_layers = hook().layer_count
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[: hook().layer_count]
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(target, safe_serialization=True)
    for name in _TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copy(source / name, target / name)


def train_sae(hidden: Halves, latents: int, k: int, seed: int) -> dict[str, Tensor]:
    """A small TopK SAE: tied start, Adam, no auxiliary loss.

    Args:
        hidden: shape [tokens, d].
        latents: dictionary size.
        k: latents active per token.
        seed: of start and batches.

    Returns:
        Its tensors, named as in SAELens' files; the encoder reads `x - b_dec`.
    """
    generator = torch.Generator().manual_seed(seed)
    values = torch.from_numpy(hidden.astype(np.float32))
    mean = values.mean(dim=0)
    scale = float((values - mean).norm(dim=1).mean())
    decoder = torch.nn.functional.normalize(
        torch.randn(latents, values.shape[1], generator=generator), dim=1
    )
    tensors = {"W_enc": decoder.T.clone(), "b_enc": torch.zeros(latents), "W_dec": decoder}
    for tensor in tensors.values():
        tensor.requires_grad_(True)
    optimizer = torch.optim.Adam(list(tensors.values()), lr=_RATE)
    for _ in range(_STEPS):
        chosen = torch.randint(len(values), (_ROWS,), generator=generator)
        inputs = (values[chosen] - mean) / scale
        pre = inputs @ tensors["W_enc"] + tensors["b_enc"]
        top, places = torch.topk(pre, k, dim=1)
        codes = torch.zeros_like(pre).scatter(1, places, top.relu())
        loss = (codes @ tensors["W_dec"] - inputs).square().sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {
        "W_enc": (tensors["W_enc"].detach() / scale).contiguous(),
        "b_enc": tensors["b_enc"].detach(),
        "W_dec": (tensors["W_dec"].detach() * scale).contiguous(),
        "b_dec": mean,
    }


def save_topk(tensors: dict[str, Tensor], k: int, folder: Path) -> None:
    """A TopK SAE in SAELens' format."""
    width, count = tensors["W_enc"].shape
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "sae_weights.safetensors")
    config = {
        "architecture": "topk",
        "d_in": width,
        "d_sae": count,
        "k": k,
        "dtype": "float32",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "metadata": {"hook_name": HOOK},
    }
    (folder / "cfg.json").write_text(json.dumps(config))
