"""Trains the demo's TopK SAE with SAELens and writes it in half precision.

Usage: ``python -m demo.train_sae --model <folder> --cache <file.npy> --output demo/sae``

Rows of held-out sources are never seen. Activations are scaled to an average norm of
sqrt(d_in) for training and the scale is folded into the weights afterwards, as are the
decoder norms: what ships is ``topk(relu((x - b_dec) W_enc + b_enc))`` with unit decoder rows.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sae_lens.saes.sae import SAEMetadata
from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig
from safetensors.torch import save_file
from torch import Tensor

from demo.corpus_rows import HELD_OUT_SHARE, Row, is_held_out, read_corpus, rows
from demo.residual_stream import (
    CONTEXT_TOKENS,
    HOOK_LAYER,
    HOOK_NAME,
    MODEL_NAME,
    CutModel,
    cache_activations,
)
from demo.sparse_step import loss_and_active

LATENTS = 4_608
ACTIVE_LATENTS = 24
BATCH_TOKENS = 2_048
LEARNING_RATE = 8e-4
DEAD_AFTER_STEPS = 100
AUXILIARY_LATENTS = 32
CORPUS = Path(__file__).parent / "corpus" / "corpus.jsonl.zst"


def training_rows(model_folder: Path, bos_id: int, seed: int, maximum_tokens: int) -> list[Row]:
    """Rows of training sources, shuffled, up to ``maximum_tokens`` tokens (0: all)."""
    documents = [item for item in read_corpus(CORPUS) if not is_held_out(item.source)]
    chosen = list(rows(documents, model_folder, CONTEXT_TOKENS, bos_id))
    random.Random(seed).shuffle(chosen)
    if maximum_tokens:
        total = 0
        for index, row in enumerate(chosen):
            total += len(row.token_ids) - 1
            if total >= maximum_tokens:
                return chosen[: index + 1]
    return chosen


def batches(cache: NDArray[np.float16], scale: float, seed: int) -> Iterator[Tensor]:
    """Scaled batches without end, every epoch in a new order, the rest of an epoch dropped."""
    generator = np.random.default_rng(seed)
    while True:
        order = generator.permutation(len(cache))
        for start in range(0, len(order) - BATCH_TOKENS + 1, BATCH_TOKENS):
            chosen = np.sort(order[start : start + BATCH_TOKENS])
            yield torch.from_numpy(cache[chosen].astype(np.float32)) * scale


def train(cache: NDArray[np.float16], steps: int, seed: int) -> TopKTrainingSAE:
    """Train and fold the input scale back, so that the SAE takes plain activations."""
    torch.manual_seed(seed)
    sample = torch.from_numpy(cache[:: max(1, len(cache) // 50_000)].astype(np.float32))
    scale = (sample.shape[1] ** 0.5 / sample.norm(dim=1).mean()).item()
    sae = TopKTrainingSAE(
        TopKTrainingSAEConfig(
            d_in=sample.shape[1], d_sae=LATENTS, k=ACTIVE_LATENTS, decoder_init_norm=1.0
        )
    )
    sae.b_dec.data = sample.mean(0) * scale
    optimizer = torch.optim.Adam(sae.parameters(), lr=LEARNING_RATE, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(_rate, steps=steps))
    silent = torch.zeros(LATENTS, dtype=torch.long)
    for step, batch in zip(range(steps), batches(cache, scale, seed), strict=False):
        loss, active, auxiliary = loss_and_active(
            batch, sae, silent > DEAD_AFTER_STEPS, AUXILIARY_LATENTS
        )
        (loss + auxiliary).backward()
        torch.nn.utils.clip_grad_norm_(sae.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        sae.W_dec.data /= sae.W_dec.data.norm(dim=1, keepdim=True)
        silent += 1
        silent[active.unique()] = 0
        if step % 50 == 0:
            _report(step, batch, loss, silent)
    sae.fold_activation_norm_scaling_factor(scale)
    return sae


def _rate(step: int, steps: int) -> float:
    """Learning rate as a share of its peak: linear warm-up, plateau, linear decay to a tenth."""
    warm_up, decay = max(1, min(200, steps // 10)), max(1, steps // 3)
    falling = max(0.0, (step - (steps - decay)) / decay)
    return float(min(1.0, (step + 1) / warm_up) * (1.0 - 0.9 * falling))


def _report(step: int, batch: Tensor, loss: Tensor, silent: Tensor) -> None:
    variance = (batch - batch.mean(0)).pow(2).sum(1).mean()
    unexplained = (loss.detach() / variance).item()
    dead = int((silent > DEAD_AFTER_STEPS).sum())
    print(f"step {step}: unexplained {unexplained:.4f}, {dead} dead", flush=True)


def ship(sae: TopKTrainingSAE, folder: Path, training: dict[str, object]) -> None:
    """Write SAELens' inference format with float16 weights and a complete configuration.

    SAELens divides the decoder rows by their norms on saving; the rescaling at run time is
    switched off because it would only multiply by the rounding of those norms.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().clone() for name, value in sae.state_dict().items()}
    sae.process_state_dict_for_saving_inference(weights)
    halves = {name: value.to(torch.float16).contiguous() for name, value in weights.items()}
    save_file(halves, folder / "sae_weights.safetensors")
    sae.cfg.metadata = SAEMetadata(
        model_name=MODEL_NAME,
        hook_name=HOOK_NAME,
        hook_layer=HOOK_LAYER,
        hf_hook_name=f"model.layers.{HOOK_LAYER}",
        context_size=CONTEXT_TOKENS,
        prepend_bos=True,
        exclude_special_tokens=True,
        excluded_positions=[0],
        one_document_per_row=True,
        training=training,
    )
    config = sae.cfg.get_inference_sae_cfg_dict()
    config["rescale_acts_by_decoder_norm"] = False
    config["dtype"] = "float32"
    config["device"] = "cpu"
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (folder / "cfg.json").write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of the converted model")
    parser.add_argument("--cache", type=Path, required=True, help="file for the activations")
    parser.add_argument("--output", type=Path, required=True, help="folder for the SAE")
    parser.add_argument("--steps", type=int, default=3_000)
    parser.add_argument("--maximum-tokens", type=int, default=1_000_000, help="0: all")
    parser.add_argument("--seed", type=int, default=8)
    arguments = parser.parse_args()
    if arguments.cache.exists():
        cache = np.load(arguments.cache, mmap_mode="r")
    else:
        model = CutModel(arguments.model)
        chosen = training_rows(
            arguments.model, model.bos_id, arguments.seed, arguments.maximum_tokens
        )
        partial = arguments.cache.with_suffix(".part.npy")
        cache = cache_activations(model, chosen, partial)
        partial.rename(arguments.cache)
    sae = train(np.asarray(cache), arguments.steps, arguments.seed)
    training: dict[str, object] = {
        "steps": arguments.steps,
        "batch_tokens": BATCH_TOKENS,
        "distinct_tokens": len(cache),
        "tokens_seen": arguments.steps * BATCH_TOKENS,
        "learning_rate": LEARNING_RATE,
        "seed": arguments.seed,
        "held_out_source_share": HELD_OUT_SHARE,
    }
    ship(sae, arguments.output, training)


if __name__ == "__main__":
    main()
