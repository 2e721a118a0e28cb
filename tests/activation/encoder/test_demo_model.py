"""The encoder on the real demo model: what the tiny models cannot show.

Real weights bring a massive norm at position 0, grouped attention over many heads and a real
tokenizer; the SAE is random, so that no trained weights are needed.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from services.activation.encoder.encode import Encoder
from services.activation.encoder.gguf import ensure_converted
from services.activation.encoder.model import load_model
from services.activation.encoder.sae import load_sae
from services.activation.encoder.sources import ModelSource, SaeSource
from services.activation.encoder.tokenizer import TextLimits, load_tokenizer
from services.common.settings import default_cache_dir

pytestmark = pytest.mark.stack

TEXTS = ["The capital of France is Paris.", "  def add(a, b):\n    return a + b\n", "né 🙂 ok", "x"]


def write_random_sae(folder: Path, d_in: int, d_sae: int) -> Path:
    generator = torch.Generator().manual_seed(0)
    weights = {
        "W_enc": torch.randn(d_in, d_sae, generator=generator) / d_in**0.5,
        "b_enc": torch.zeros(d_sae),
        "W_dec": torch.randn(d_sae, d_in, generator=generator),
        "b_dec": torch.randn(d_in, generator=generator),
    }
    metadata = {"hook_name": "blocks.8.hook_resid_post", "sae_lens_version": "6.54.12"}
    config = {"architecture": "topk", "d_in": d_in, "d_sae": d_sae, "k": 24, "dtype": "float32"}
    config |= {"device": "cpu", "apply_b_dec_to_input": True, "metadata": metadata}
    folder.mkdir()
    (folder / "cfg.json").write_text(json.dumps(config))
    save_file(weights, folder / "sae_weights.safetensors")
    return folder


def test_batched_values_equal_sae_lens_on_single_plain_runs(tmp_path: Path) -> None:
    """Guards against values that only tiny random models let pass."""
    from sae_lens import SAE
    from transformers import AutoModelForCausalLM

    source = ModelSource(str(ensure_converted(default_cache_dir())))
    folder = write_random_sae(tmp_path / "sae", 576, 256)
    tokenized = load_tokenizer(source).tokenize(TEXTS, TextLimits())
    for text, tokens in zip(TEXTS, tokenized, strict=True):
        assert b"".join(tokens.token_bytes).decode() == text
    rows = [tokens.ids for tokens in tokenized]
    sae = load_sae(SaeSource(str(folder)))
    encoder = Encoder(load_model(source, 9))
    batched = encoder.encode(sae, rows, list(range(256)))
    assert encoder.model.layer_count == 9

    plain = AutoModelForCausalLM.from_pretrained(source.location, dtype=torch.float32).eval()
    reference = SAE.load_from_disk(folder)
    for row, values in zip(rows, batched, strict=True):
        with torch.no_grad():
            states = plain(torch.from_numpy(row)[None], output_hidden_states=True).hidden_states
        expected = reference.encode(states[9][0]).detach().numpy()
        expected[0] = 0.0
        scale = np.maximum(expected.max(axis=0), expected.max() * 0.1)
        assert np.all(np.abs(values - expected) <= 1e-4 * scale)
