"""Families of language models: which module of a Hugging Face model each place is.

One row per family. A family that is not in the table is refused by name, because a guess that
finds a module of the right name can still read the wrong tensor: ``post_attention_layernorm``
is the MLP's input norm in Llama and a part of attention's output in Gemma 2.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from services.activation.encoder.hooks import Site
from services.common.errors import Unimplemented


class NormKind(enum.Enum):
    """How a family normalises before attention and MLP."""

    LAYER = "layer"
    """Mean subtracted, divided by the standard deviation."""
    RMS = "rms"
    """Divided by the root mean square."""


class Side(enum.Enum):
    """Which end of a module is read."""

    INPUT = "input"
    OUTPUT = "output"


@dataclass(frozen=True)
class Tap:
    """One tensor: an end of a module. ``path`` is relative to the block, empty for itself."""

    path: str
    side: Side
    normalized: bool = False
    """The norm ``path`` is applied to its input, without weight and bias."""


@dataclass(frozen=True)
class Family:
    """Module names of one family; paths are relative to the base model or to a block."""

    name: str
    norm: NormKind
    blocks: str = "layers"
    embedding: str = "embed_tokens"
    positions: str | None = None
    """Learned position embedding, where there is one."""
    final_norm: str = "norm"
    text_model: str = ""
    """Language model inside the base model, where that holds other towers too."""
    attention_norm: str = "input_layernorm"
    attention: str = "self_attn"
    attention_projection: str = "self_attn.o_proj"
    attention_post_norm: str | None = None
    mlp_norm: str = "post_attention_layernorm"
    mlp: str = "mlp"
    mlp_projection: str = "mlp.down_proj"
    mlp_post_norm: str | None = None
    is_parallel: Callable[[Any], bool] = lambda config: False
    """Whether attention and MLP of a block read the same residual stream."""

    def tap(self, site: Site, config: Any) -> Tap:
        """The tensor that ``site`` means within a block of a model with this configuration.

        Raises:
            Unimplemented: UNSUPPORTED where blocks of this family have no such place.
        """
        if site is Site.RESIDUAL_MID and self.is_parallel(config):
            raise Unimplemented(
                f"{site.value} does not exist in {self.name} with parallel attention and MLP",
                metadata={"hook": site.value, "family": self.name},
            )
        return self._taps[site]

    @property
    def _taps(self) -> Mapping[Site, Tap]:
        return {
            Site.RESIDUAL_PRE: Tap("", Side.INPUT),
            Site.RESIDUAL_MID: Tap(self.mlp_norm, Side.INPUT),
            Site.RESIDUAL_POST: Tap("", Side.OUTPUT),
            Site.ATTENTION_NORMALIZED: Tap(self.attention_norm, Side.INPUT, normalized=True),
            Site.ATTENTION_HEADS: Tap(self.attention_projection, Side.INPUT),
            Site.ATTENTION_OUT: Tap(self.attention_post_norm or self.attention, Side.OUTPUT),
            Site.MLP_IN_RESIDUAL: Tap(self.mlp_norm, Side.INPUT),
            Site.MLP_NORMALIZED: Tap(self.mlp_norm, Side.INPUT, normalized=True),
            Site.MLP_IN: Tap(self.mlp, Side.INPUT),
            Site.MLP_HIDDEN: Tap(self.mlp_projection, Side.INPUT),
            Site.MLP_MODULE_OUT: Tap(self.mlp, Side.OUTPUT),
            Site.MLP_OUT: Tap(self.mlp_post_norm or self.mlp, Side.OUTPUT),
        }


_LLAMA = Family("llama", NormKind.RMS)
_GEMMA_2 = Family(
    "gemma2",
    NormKind.RMS,
    attention_post_norm="post_attention_layernorm",
    mlp_norm="pre_feedforward_layernorm",
    mlp_post_norm="post_feedforward_layernorm",
)
_GPT_2 = Family(
    "gpt2",
    NormKind.LAYER,
    blocks="h",
    embedding="wte",
    positions="wpe",
    final_norm="ln_f",
    attention_norm="ln_1",
    attention="attn",
    attention_projection="attn.c_proj",
    mlp_norm="ln_2",
    mlp_projection="mlp.c_proj",
)
_GPT_NEOX = Family(
    "gpt_neox",
    NormKind.LAYER,
    embedding="embed_in",
    final_norm="final_layer_norm",
    attention="attention",
    attention_projection="attention.dense",
    mlp_projection="mlp.dense_4h_to_h",
    is_parallel=lambda config: bool(config.use_parallel_residual),
)
_PHI = Family(
    "phi",
    NormKind.LAYER,
    final_norm="final_layernorm",
    attention_projection="self_attn.dense",
    mlp_norm="input_layernorm",
    mlp_projection="mlp.fc2",
    is_parallel=lambda config: True,
)

FAMILIES: Mapping[str, Family] = {
    "llama": _LLAMA,
    "mistral": replace(_LLAMA, name="mistral"),
    "qwen2": replace(_LLAMA, name="qwen2"),
    "qwen3": replace(_LLAMA, name="qwen3"),
    "gemma2": _GEMMA_2,
    "gemma3_text": replace(_GEMMA_2, name="gemma3_text"),
    "gemma3": replace(_GEMMA_2, name="gemma3", text_model="language_model"),
    "gpt2": _GPT_2,
    "gpt_neox": _GPT_NEOX,
    "phi": _PHI,
}
"""Families by ``model_type`` of the Hugging Face configuration. SmolLM2 is a Llama, Pythia a
GPT-NeoX."""


def family_of(config: Any) -> Family:
    """The family of a model, by its configuration.

    Raises:
        Unimplemented: UNSUPPORTED, naming the family and the known ones, or the setting that
            makes a row's values depend on what stands behind it or beside it.
    """
    name = str(getattr(config, "model_type", ""))
    if name not in FAMILIES:
        raise Unimplemented(
            f"language models of the family {name!r} are not supported; "
            f"{', '.join(sorted(FAMILIES))} are",
            metadata={"family": name},
        )
    text: Any = config.get_text_config()
    _check_rows_stand_alone(text)
    return FAMILIES[name]


def _check_rows_stand_alone(text: Any) -> None:
    """Padding and packing rest on it that nothing behind a token reaches it."""
    if getattr(text, "use_bidirectional_attention", False):
        raise Unimplemented("use_bidirectional_attention: tokens would see what follows them")
    rope = getattr(text, "rope_parameters", None) or {}
    for parameters in (rope, *rope.values()):
        if isinstance(parameters, dict) and parameters.get("rope_type") == "longrope":
            raise Unimplemented(
                "rope_type 'longrope': positions would be read by the longest row of a batch"
            )


def submodule(root: nn.Module, path: str) -> nn.Module:
    """The module at a dotted path; the root itself for an empty one.

    Raises:
        Unimplemented: UNSUPPORTED where the model has no such module.
    """
    try:
        return root.get_submodule(path)
    except AttributeError as error:
        raise Unimplemented(
            f"{type(root).__name__} has no module {path!r}, as its family should",
            metadata={"module": path},
        ) from error
