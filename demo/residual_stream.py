"""Activations of the demo model after its hooked block, by plain ``transformers``.

The demo's SAE is trained and judged on these, not on the service's encoder, so that the
encoder can be checked against them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from demo.corpus_rows import Row

MODEL_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
HOOK_LAYER = 8
HOOK_NAME = f"blocks.{HOOK_LAYER}.hook_resid_post"
CONTEXT_TOKENS = 128


class CutModel:
    """The model up to and including its hooked block, in float32."""

    def __init__(self, folder: Path) -> None:
        config = AutoConfig.from_pretrained(folder)
        config.num_hidden_layers = HOOK_LAYER + 1
        self.bos_id: int = config.bos_token_id
        self._model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            folder, config=config, dtype=torch.float32
        ).eval()
        self._caught: Tensor | None = None
        self._model.model.layers[HOOK_LAYER].register_forward_hook(self._catch)

    @torch.inference_mode()
    def __call__(self, ids: Int[Tensor, "row position"]) -> Float[Tensor, "row position d_in"]:
        """Residual stream after the block; padding on the right changes nothing before it."""
        self._model.model(input_ids=ids, use_cache=False)
        assert self._caught is not None
        return self._caught

    def _catch(self, _module: object, _args: object, output: Tensor | tuple[Tensor, ...]) -> None:
        self._caught = output[0] if isinstance(output, tuple) else output


def padded(rows: Sequence[Row], pad_id: int) -> Int[Tensor, "row position"]:
    """Token ids, filled on the right to the longest row."""
    longest = max(len(row.token_ids) for row in rows)
    ids = torch.full((len(rows), longest), pad_id, dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, : len(row.token_ids)] = torch.tensor(row.token_ids)
    return ids


def activation_blocks(
    model: CutModel, rows: Sequence[Row], tokens_per_batch: int = 6_144
) -> Iterator[Float[Tensor, "token d_in"]]:
    """Activations of every token but position 0, rows taken by length, one block a batch."""
    for batch in _batches(sorted(rows, key=lambda row: len(row.token_ids)), tokens_per_batch):
        hidden = model(padded(batch, model.bos_id))
        parts = [hidden[i, 1 : len(row.token_ids)] for i, row in enumerate(batch)]
        yield torch.cat(parts)


def _batches(by_length: Sequence[Row], tokens: int) -> Iterator[list[Row]]:
    batch: list[Row] = []
    for row in by_length:
        if batch and (len(batch) + 1) * len(row.token_ids) > tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def cache_activations(model: CutModel, rows: Sequence[Row], path: Path) -> NDArray[np.float16]:
    """Write the activations of all rows to a float16 file and return it mapped into memory."""
    tokens = sum(len(row.token_ids) - 1 for row in rows)
    cache: NDArray[np.float16] | None = None
    position = 0
    for block in activation_blocks(model, rows):
        if cache is None:
            shape = (tokens, block.shape[1])
            cache = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
        cache[position : position + len(block)] = block.numpy().astype(np.float16)
        position += len(block)
        if position // 50_000 != (position - len(block)) // 50_000:
            print(f"activations of {position} of {tokens} tokens", flush=True)
    if cache is None:
        raise ValueError("no rows to run the model on")
    cache.flush()
    return cache
