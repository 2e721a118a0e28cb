"""The same weights in TransformerLens: the reference for what a hook name means.

``HookedTransformer`` is an implementation of its own, from embedding to residual stream. Its
loader takes published models only, so its configuration is written here; its own converters
translate the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens.pretrained import weight_conversions as convert
from transformers import PreTrainedModel

_CONVERTERS: Mapping[str, Callable[..., dict[str, torch.Tensor]]] = {
    "llama": convert.convert_llama_weights,
    "gpt2": convert.convert_gpt2_weights,
    "gpt_neox": convert.convert_neox_weights,
    "gemma2": convert.convert_gemma_weights,
    "gemma3_text": convert.convert_gemma_weights,
    "qwen2": convert.convert_qwen2_weights,
    "qwen3": convert.convert_qwen3_weights,
    "mistral": convert.convert_mistral_weights,
    "phi": convert.convert_phi_weights,
}


def lens_model(model: PreTrainedModel, *, center_writing_weights: bool = False) -> Any:
    """A ``HookedTransformer`` with the weights of a small model."""
    config = lens_config(model.config)
    lens = HookedTransformer(config)
    state = _CONVERTERS[model.config.model_type](model, config)
    lens.load_and_process_state_dict(
        state,
        fold_ln=False,
        center_writing_weights=center_writing_weights,
        center_unembed=False,
        fold_value_biases=False,
    )
    lens.set_use_hook_mlp_in(True)
    return lens.eval()


def lens_config(hf: Any) -> HookedTransformerConfig:
    """TransformerLens' description of a small model."""
    settings: dict[str, Any] = {
        "d_model": hf.hidden_size,
        "d_head": getattr(hf, "head_dim", None) or hf.hidden_size // hf.num_attention_heads,
        "n_heads": hf.num_attention_heads,
        "n_layers": hf.num_hidden_layers,
        "d_vocab": hf.vocab_size,
        "n_ctx": hf.max_position_embeddings,
        "init_weights": False,
        "device": "cpu",
        **_FAMILY_SETTINGS[hf.model_type](hf),
    }
    if getattr(hf, "num_key_value_heads", None) not in (None, hf.num_attention_heads):
        settings["n_key_value_heads"] = hf.num_key_value_heads
    return HookedTransformerConfig.from_dict(settings)


def _rms(hf: Any) -> dict[str, Any]:
    rope = hf.rope_parameters
    return {
        "original_architecture": hf.architectures[0],
        "d_mlp": hf.intermediate_size,
        "act_fn": getattr(hf, "hidden_act", None) or hf.hidden_activation,
        "eps": hf.rms_norm_eps,
        "normalization_type": "RMS",
        "positional_embedding_type": "rotary",
        "rotary_base": rope.get("rope_theta", 10_000.0),
        "rotary_dim": getattr(hf, "head_dim", None) or hf.hidden_size // hf.num_attention_heads,
        "rotary_adjacent_pairs": False,
        "final_rms": True,
        "gated_mlp": True,
    }


def _windowed(hf: Any) -> dict[str, Any]:
    types = getattr(hf, "layer_types", None) or ["sliding_attention"] * hf.num_hidden_layers
    return {
        "use_local_attn": True,
        "window_size": hf.sliding_window,
        "attn_types": ["local" if kind == "sliding_attention" else "global" for kind in types],
    }


def _gemma_2(hf: Any) -> dict[str, Any]:
    return {
        **_rms(hf),
        **_windowed(hf),
        "attn_scores_soft_cap": hf.attn_logit_softcapping,
        "use_normalization_before_and_after": True,
        "attn_scale": hf.query_pre_attn_scalar**0.5,
    }


def _gemma_3(hf: Any) -> dict[str, Any]:
    rope = hf.rope_parameters
    return {
        **_rms(hf),
        **_windowed(hf),
        "rotary_base": rope["full_attention"]["rope_theta"],
        "rotary_base_local": rope["sliding_attention"]["rope_theta"],
        "use_normalization_before_and_after": True,
        "use_qk_norm": True,
        "attn_scale": hf.query_pre_attn_scalar**0.5,
    }


def _gpt_2(hf: Any) -> dict[str, Any]:
    return {
        "original_architecture": "GPT2LMHeadModel",
        "d_mlp": hf.n_inner,
        "act_fn": "gelu_new",
        "eps": hf.layer_norm_epsilon,
        "normalization_type": "LN",
    }


def _parallel(hf: Any) -> dict[str, Any]:
    rope = hf.rope_parameters
    width = hf.hidden_size // hf.num_attention_heads
    return {
        "original_architecture": hf.architectures[0],
        "d_mlp": hf.intermediate_size,
        "act_fn": hf.hidden_act,
        "eps": hf.layer_norm_eps,
        "normalization_type": "LN",
        "positional_embedding_type": "rotary",
        "rotary_base": rope["rope_theta"],
        "rotary_dim": int(rope.get("partial_rotary_factor", 1.0) * width),
        "rotary_adjacent_pairs": False,
        "parallel_attn_mlp": getattr(hf, "use_parallel_residual", True),
    }


_FAMILY_SETTINGS: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "llama": _rms,
    "qwen2": _rms,
    "qwen3": lambda hf: {**_rms(hf), "use_qk_norm": True},
    "mistral": lambda hf: {**_rms(hf), **_windowed(hf)},
    "gemma2": _gemma_2,
    "gemma3_text": _gemma_3,
    "gpt2": _gpt_2,
    "gpt_neox": _parallel,
    "phi": _parallel,
}
