"""Logit directions against the model itself: finite differences through its last block, and its
own modules called one after the other where the effect is not linear."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    PhiConfig,
    PretrainedConfig,
)

from services.activation.encoder.families import NormKind, submodule
from services.activation.encoder.fingerprints import readout_fingerprint
from services.activation.encoder.model import CutModel
from services.activation.encoder.readout import logit_directions, unembedding
from services.activation.encoder.sae import Sae, read_config
from services.activation.encoder.saes.registry import architecture
from services.common.errors import Unimplemented
from tests.activation import tiny

HEADS, FEATURES = 4, [0, 11, 95]
_SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "max_position_embeddings": 32,
    "initializer_range": 0.3,
}
_GPT_2 = {"vocab_size": 60, "n_embd": 32, "n_layer": 2, "n_head": HEADS, "n_inner": 64}
CONFIGS: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**_SIZES, num_key_value_heads=2),
    "gpt2": GPT2Config(**_GPT_2, n_positions=32, initializer_range=0.3),
    "gpt_neox": GPTNeoXConfig(**_SIZES),
    "phi": PhiConfig(**_SIZES),
    "gemma2": Gemma2Config(**_SIZES, num_key_value_heads=2, head_dim=8),
}


def random_model(family: str) -> CutModel:
    """Norms have weights and biases that are not those of a fresh model."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[family]).eval().double()
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, 0.4, 0.3)
    return CutModel(model, device=torch.device("cpu"))


def sae_at(hook: str, width: int, **overrides: Any) -> Sae:
    metadata = {"hook_name": hook, "model_name": "tiny", "sae_lens_version": "6.54.12"}
    raw = tiny.sae_config("standard", d_in=width, metadata=metadata, **overrides)
    weights = tiny.sae_weights("standard", d_in=width)
    return architecture("standard").encoder(read_config(raw), weights, "cpu")


@torch.inference_mode()
def logits_of_unit_length(model: CutModel, module: nn.Module, change: Tensor) -> Tensor:
    """Logits of the last token with `change` added to a module's input there, as if the final
    norm had divided by nothing; [vocabulary]."""
    stream: list[Tensor] = []

    def add(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        changed = inputs[0].clone()
        changed[0, -1] += change
        return (changed, *inputs[1:])

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        stream.append(inputs[0][0, -1])

    norm = submodule(model.base, model.family.final_norm)
    handles = [module.register_forward_pre_hook(add), norm.register_forward_pre_hook(keep)]
    try:
        whole: Any = model.model
        logits = whole(input_ids=torch.tensor([[1, 5, 9, 20]])).logits[0, -1]
    finally:
        for handle in handles:
            handle.remove()
    head: Any = model.model.get_output_embeddings()  # type: ignore[operator]
    if model.family.norm is NormKind.LAYER:
        constant = head(norm.bias)
        return (logits - constant) * (stream[0].var(unbiased=False) + 1e-5).sqrt()
    return logits * (stream[0].square().mean() + 1e-6).sqrt()


@pytest.mark.parametrize(
    ("family", "hook", "width"),
    [
        ("llama", "blocks.1.mlp.hook_post", 64),
        ("gpt2", "blocks.1.mlp.hook_post", 64),
        ("gpt_neox", "blocks.1.mlp.hook_post", 64),
        ("phi", "blocks.1.mlp.hook_post", 64),
        ("gpt_neox", "blocks.1.attn.hook_z", 32),
        ("phi", "blocks.1.attn.hook_z", 32),
    ],
)
def test_a_feature_moves_the_logits_as_its_direction_says(
    family: str, hook: str, width: int
) -> None:
    """Finite differences through the model, where the way from the hook to the stream is linear
    and nothing of the block reads it on the way. Guards against a transposed projection, a norm's
    weight that is not folded in, and a mean that is not subtracted."""
    model, sae = random_model(family), sae_at(hook, width)
    block = model.blocks[1]
    path = model.family.mlp_projection if "mlp" in hook else model.family.attention_projection
    module, step = submodule(block, path), 0.5
    expected = logit_directions(model, sae, FEATURES).double() @ unembedding(model).double().T
    for row, feature in enumerate(FEATURES):
        change = step * sae.weights["W_dec"][feature].double()
        moved = logits_of_unit_length(model, module, change)
        still = logits_of_unit_length(model, module, torch.zeros_like(change))
        found = (moved - still) / step
        scale = float(expected[row].abs().max())
        assert scale > 0.1
        torch.testing.assert_close(found, expected[row], rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize(
    ("hook", "width"), [("blocks.1.attn.hook_z", 32), ("blocks.1.mlp.hook_post", 64)]
)
def test_gemmas_norms_multiply_by_one_more_than_their_weight(hook: str, width: int) -> None:
    """The model's own projection, post-norm, final norm and head on the decoder row alone: equal
    up to the norms' lengths, which are positive. Negative control: without the 1 it is not."""
    model, sae = random_model("gemma2"), sae_at(hook, width)
    family, block = model.family, model.blocks[1]
    mlp = "mlp" in hook
    projection = family.mlp_projection if mlp else family.attention_projection
    post_norm = family.mlp_post_norm if mlp else family.attention_post_norm
    assert post_norm is not None
    rows = 100 * sae.weights["W_dec"][FEATURES].double()
    written = submodule(block, projection)(rows)
    stream = submodule(block, post_norm)(written)
    states = submodule(model.base, family.final_norm)(stream)
    head = unembedding(model).double()
    expected = states @ head.T
    found = logit_directions(model, sae, FEATURES).double() @ head.T
    assert_same_direction(found, expected)
    final: Any = submodule(model.base, family.final_norm)
    wrong = (stream * final.weight) @ head.T
    assert float(torch.cosine_similarity(wrong, expected).max()) < 0.99


def test_one_heads_rows_go_through_that_heads_part_of_the_projection() -> None:
    """Guards against the first head's columns for all of them."""
    model = random_model("llama")
    width = 32 // HEADS
    sae = sae_at("blocks.1.attn.hook_z", width, hook_head_index=2)
    rows = torch.zeros(len(FEATURES), 32, dtype=torch.float64)
    rows[:, 2 * width : 3 * width] = 100 * sae.weights["W_dec"][FEATURES].double()
    stream = submodule(model.blocks[1], model.family.attention_projection)(rows)
    states = submodule(model.base, model.family.final_norm)(stream)
    head = unembedding(model).double()
    found = logit_directions(model, sae, FEATURES).double() @ head.T
    assert_same_direction(found, states @ head.T)


def test_what_never_reaches_the_stream_is_refused() -> None:
    """Guards against tokens promoted by a tensor that the model only reads."""
    with pytest.raises(Unimplemented, match="residual stream"):
        logit_directions(random_model("llama"), sae_at("blocks.1.ln2.hook_normalized", 32))


def test_the_readouts_fingerprint_covers_final_norm_and_head() -> None:
    """And not the blocks; a head that is the embedding is covered by the model's fingerprint."""
    fingerprints = [readout_fingerprint(random_model("llama"))]
    for name in ("model.norm.weight", "lm_head.weight", "model.layers.0.mlp.up_proj.weight"):
        model = random_model("llama")
        model.model.get_parameter(name).add_(1.0)
        fingerprints.append(readout_fingerprint(model))
    plain, norm, head, block = fingerprints
    assert len({plain, norm, head}) == 3
    assert block == plain
    tied = random_model("gemma2")
    before = readout_fingerprint(tied)
    tied.embedding.add_(1.0)
    assert readout_fingerprint(tied) == before


def assert_same_direction(found: Tensor, expected: Tensor) -> None:
    """Equal rows up to one positive factor each."""
    factor = (found * expected).sum(-1, keepdim=True) / expected.square().sum(-1, keepdim=True)
    assert bool((factor > 0).all())
    torch.testing.assert_close(
        found, factor * expected, rtol=0, atol=1e-4 * float(found.abs().max())
    )
