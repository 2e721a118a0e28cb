"""Where in a language model an SAE reads, and the foreign names of those places.

SAELens and TransformerLens name a place ``blocks.8.hook_resid_post``; SAELens on a plain
Hugging Face model names the module, ``model.layers.8`` or ``model.layers.8.mlp.output``. Both are
read here and nowhere else; the rest of the service knows only :class:`HookPoint`. Which module of
a model a place is, says :mod:`services.activation.encoder.families`. A name that is not
understood is refused by name: reading the wrong tensor would give plausible values.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass

from services.common.errors import Unimplemented


class Site(enum.StrEnum):
    """Which tensor is read; the value is its TransformerLens name within the block."""

    EMBEDDING = "hook_embed"
    """Token embeddings as the first block gets them, before positions are added."""
    RESIDUAL_PRE = "hook_resid_pre"
    """Residual stream before the block: what the block receives."""
    RESIDUAL_MID = "hook_resid_mid"
    """Residual stream between attention and MLP; blocks that run them in parallel have none."""
    RESIDUAL_POST = "hook_resid_post"
    """Residual stream after the block: what the block returns."""
    ATTENTION_NORMALIZED = "ln1.hook_normalized"
    """Attention's input, normalised but not yet scaled by the norm's weight."""
    ATTENTION_HEADS = "attn.hook_z"
    """Heads' mixed values before the output projection, [heads x d_head] side by side."""
    ATTENTION_OUT = "hook_attn_out"
    """What attention adds to the residual stream; after the post-norm where there is one."""
    MLP_IN_RESIDUAL = "hook_mlp_in"
    """Residual stream that the MLP's norm reads."""
    MLP_NORMALIZED = "ln2.hook_normalized"
    """MLP's input, normalised but not yet scaled by the norm's weight."""
    MLP_IN = "mlp.hook_in"
    """What the MLP module receives: normalised, scaled and shifted."""
    MLP_HIDDEN = "mlp.hook_post"
    """Hidden layer of the MLP after its nonlinearity and gate."""
    MLP_MODULE_OUT = "mlp.hook_out"
    """What the MLP module returns, before the post-norm where there is one."""
    MLP_OUT = "hook_mlp_out"
    """What the MLP adds to the residual stream; after the post-norm where there is one."""


WRITES_TO_RESIDUAL = frozenset(
    {
        Site.EMBEDDING,
        Site.RESIDUAL_PRE,
        Site.RESIDUAL_MID,
        Site.RESIDUAL_POST,
        Site.ATTENTION_OUT,
        Site.MLP_IN_RESIDUAL,
        Site.MLP_MODULE_OUT,
        Site.MLP_OUT,
    }
)
"""Places that hold the residual stream or a part of its sum."""


@dataclass(frozen=True, order=True)
class HookPoint:
    """One place in the model. ``layer`` counts blocks from 0; ``str()`` is the canonical name."""

    layer: int
    site: Site

    def __str__(self) -> str:
        if self.site is Site.EMBEDDING:
            return self.site.value
        return f"blocks.{self.layer}.{self.site.value}"

    @property
    def layer_count(self) -> int:
        """Blocks that have to exist for this place to be reached."""
        return self.layer + 1


_LENS_NAMES: Mapping[str, Site] = {
    **{site.value: site for site in Site if site is not Site.EMBEDDING},
    "hook_z": Site.ATTENTION_HEADS,
}
_MODULE_NAMES: Mapping[str, Site] = {
    "": Site.RESIDUAL_POST,
    "input": Site.RESIDUAL_PRE,
    "output": Site.RESIDUAL_POST,
    "mlp.input": Site.MLP_IN,
    "mlp": Site.MLP_MODULE_OUT,
    "mlp.output": Site.MLP_MODULE_OUT,
    "self_attn.o_proj.input": Site.ATTENTION_HEADS,
    "attn.c_proj.input": Site.ATTENTION_HEADS,
    "attention.dense.input": Site.ATTENTION_HEADS,
    "self_attn.dense.input": Site.ATTENTION_HEADS,
    "attn.output": Site.ATTENTION_OUT,
    "attention.output": Site.ATTENTION_OUT,
    "pre_feedforward_layernorm.output": Site.MLP_IN,
    "post_feedforward_layernorm.output": Site.MLP_OUT,
    "mlp.down_proj.input": Site.MLP_HIDDEN,
    "mlp.c_proj.input": Site.MLP_HIDDEN,
    "mlp.dense_4h_to_h.input": Site.MLP_HIDDEN,
    "mlp.fc2.input": Site.MLP_HIDDEN,
}
"""Modules whose role does not depend on the family. ``self_attn.output`` and
``post_attention_layernorm.output`` are two things in two families, so they are not here."""

_LENS_PATTERN = re.compile(r"blocks\.(\d+)\.(.+)")
_MODULE_PATTERN = re.compile(
    r"(?:(?:model|transformer|gpt_neox|language_model)\.)*(?:layers|h)\.(\d+)(?:\.(.+))?"
)


def parse_hook(name: str) -> HookPoint:
    """Read a SAELens, TransformerLens or Hugging Face module name.

    Raises:
        Unimplemented: UNSUPPORTED, with the name as it was given and the known ones.
    """
    if name == Site.EMBEDDING.value:
        return HookPoint(layer=0, site=Site.EMBEDDING)
    for pattern, sites in ((_LENS_PATTERN, _LENS_NAMES), (_MODULE_PATTERN, _MODULE_NAMES)):
        match = pattern.fullmatch(name)
        site = sites.get(match.group(2) or "") if match else None
        if match and site is not None:
            return HookPoint(layer=int(match.group(1)), site=site)
    raise Unimplemented(
        f"hook {name!r} is not supported; {Site.EMBEDDING.value}, "
        f"blocks.<n>.({', '.join(sorted(_LENS_NAMES))}) and "
        f"model.layers.<n>[.({', '.join(sorted(filter(None, _MODULE_NAMES)))})] are",
        metadata={"hook": name},
    )
