"""Tiny seeded parts that behave like real ones: a Llama, a byte-level tokenizer, SAEs, a corpus."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import zstandard
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

D_MODEL, LAYERS, D_SAE, K = 32, 3, 96, 6
HOOK = "blocks.1.hook_resid_post"
WORDS: tuple[str, ...] = (
    *("the", "a", "of", "and", "to", "in", "cat", "dog", "bird", "fish", "runs", "sleeps"),
    *("eats", "sees", "river", "house", "garden", "stone", "small", "old", "red", "green"),
    *("quickly", "slowly", "never", "always", "because", "although", "under", "over"),
    *("with", "without"),
)


def write_tokenizer(folder: Path) -> None:
    """A byte-level BPE with merges learnt from ``WORDS``; id 1 is the begin-of-sequence token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|end|>", "<|bos|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(WORDS)] * 20, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<|bos|>"}))


def write_model(folder: Path, seed: int = 0) -> Path:
    """A random Llama of three layers with its tokenizer, as a Hugging Face folder."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=400,
        hidden_size=D_MODEL,
        intermediate_size=64,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=0,
    )
    model = LlamaForCausalLM(config).eval()
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def sae_config(architecture: str, **overrides: object) -> dict[str, object]:
    """A SAELens configuration dictionary."""
    config: dict[str, object] = {
        "architecture": architecture,
        "d_in": D_MODEL,
        "d_sae": D_SAE,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": not architecture.endswith("transcoder"),
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {"hook_name": HOOK, "model_name": "tiny", "sae_lens_version": "6.54.12"},
    }
    if architecture == "topk":
        config.update(k=K, rescale_acts_by_decoder_norm=False)
    if architecture.endswith("batchtopk"):
        config.update(k=float(K), rescale_acts_by_decoder_norm=True)
    if architecture == "matryoshka_batchtopk":
        config.update(matryoshka_widths=[D_SAE // 4, D_SAE])
    if architecture.endswith("transcoder"):
        config.update(d_out=D_MODEL)
    return config | overrides


def sae_weights(architecture: str, seed: int = 0, d_in: int = D_MODEL) -> dict[str, torch.Tensor]:
    """Random weights whose decoder rows differ in length, so that a forgotten rescale shows."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * scale

    weights = {
        "W_enc": normal(d_in, D_SAE, scale=0.4),
        "W_dec": normal(D_SAE, d_in) * (0.5 + torch.rand(D_SAE, 1, generator=generator)),
        "b_dec": normal(d_in, scale=0.1),
    }
    if architecture == "gated":
        names = ("b_gate", "b_mag", "r_mag")
        weights.update({name: normal(D_SAE, scale=0.2) for name in names})
    else:
        weights["b_enc"] = normal(D_SAE, scale=0.2)
    if architecture.startswith("jumprelu"):
        weights["threshold"] = normal(D_SAE, scale=0.3).abs()
    if architecture.endswith("batchtopk"):
        weights["topk_threshold"] = torch.tensor(2.0, dtype=torch.float64)
    if architecture.endswith("skip_transcoder"):
        weights["W_skip"] = normal(d_in, d_in)
    return weights


def write_sae(folder: Path, architecture: str = "topk", seed: int = 0, **overrides: object) -> Path:
    """An SAE in SAELens' folder format."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cfg.json").write_text(json.dumps(sae_config(architecture, **overrides)))
    weights = sae_weights(architecture, seed, int(str(overrides.get("d_in", D_MODEL))))
    save_file(weights, folder / "sae_weights.safetensors")
    return folder


def sentences(rng: np.random.Generator, word_count: int) -> str:
    """Random words; no two calls share long runs but by chance of 32 ** -n."""
    return " ".join(WORDS[i] for i in rng.integers(0, len(WORDS), word_count)) + "."


def write_corpus(path: Path, document_count: int = 60, seed: int = 0) -> Path:
    """Random documents of two kinds, some of them near-duplicates across sources."""
    rng = np.random.default_rng(seed)
    lines = []
    shared = sentences(rng, 40)
    for number in range(document_count):
        text = sentences(rng, int(rng.integers(5, 160)))
        if number % 20 == 3:
            text = f"{text} {shared}"
        source, kind = f"source-{number // 2}", ("prose", "list")[number // 2 % 2]
        document = {"id": f"d{number}", "source": source, "kind": kind, "text": text}
        lines.append(json.dumps(document))
    path.write_bytes(zstandard.compress(("\n".join(lines) + "\n").encode()))
    return path
