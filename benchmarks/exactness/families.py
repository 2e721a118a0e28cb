"""Small random models of every family, in Hugging Face's format.

Weights are drawn by seed, and norms and biases too, which a fresh model has at 1 and 0: a
forgotten one would not show. Sliding windows are shorter than the rows that are run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PhiConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

VOCABULARY, WIDTH, HEADS, HEAD_WIDTH, MLP_WIDTH, LAYERS = 120, 32, 4, 8, 48, 3
POSITIONS, WINDOW = 96, 16

_COMMON: Mapping[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": MLP_WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "max_position_embeddings": POSITIONS,
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": 0,
}
_GROUPED: Mapping[str, Any] = {**_COMMON, "num_key_value_heads": 2}
_GEMMA: Mapping[str, Any] = {
    **_GROUPED,
    "head_dim": HEAD_WIDTH,
    "query_pre_attn_scalar": HEAD_WIDTH,
    "sliding_window": WINDOW,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}


def configurations() -> dict[str, PretrainedConfig]:
    """A small configuration of each family, by name."""
    return {
        "llama": LlamaConfig(**_GROUPED),
        "gpt2": GPT2Config(
            vocab_size=VOCABULARY,
            n_embd=WIDTH,
            n_layer=LAYERS,
            n_head=HEADS,
            n_inner=MLP_WIDTH,
            n_positions=POSITIONS,
            initializer_range=0.3,
            bos_token_id=1,
            eos_token_id=0,
        ),
        "gpt_neox": GPTNeoXConfig(**_COMMON),
        "gpt_neox_sequential": GPTNeoXConfig(**_COMMON, use_parallel_residual=False),
        "gemma2": Gemma2Config(**_GEMMA, attn_logit_softcapping=5.0),
        "gemma3_text": Gemma3TextConfig(**_GEMMA),
        "qwen2": Qwen2Config(**_GROUPED),
        "qwen3": Qwen3Config(**_GROUPED, head_dim=HEAD_WIDTH),
        "mistral": MistralConfig(**_GROUPED, sliding_window=WINDOW),
        "phi": PhiConfig(**_COMMON),
    }


def random_model(config: PretrainedConfig, seed: int = 0) -> PreTrainedModel:
    """A model with random weights, in float32."""
    torch.manual_seed(seed)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                scale = 0.2 if "norm" in name or "ln_" in name else 0.1
                parameter.add_(torch.randn_like(parameter) * scale)
    return model
