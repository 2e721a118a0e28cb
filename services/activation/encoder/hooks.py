"""Where in a language model an SAE reads, and the foreign names of those places.

SAELens and TransformerLens name a place ``blocks.8.hook_resid_post``; SAELens on a plain
Hugging Face model names the module, ``model.layers.8``. Both are read here and nowhere else;
the rest of the service knows only :class:`HookPoint`. A name that is not understood is refused
by name: reading the wrong tensor would give plausible values.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from torch import nn

from services.common.errors import FailedPrecondition, Unimplemented


class Site(enum.StrEnum):
    """Which tensor of a block is read."""

    RESIDUAL_PRE = "resid_pre"
    """Residual stream before the block: what the block receives."""
    RESIDUAL_POST = "resid_post"
    """Residual stream after the block: what the block returns."""


@dataclass(frozen=True, order=True)
class HookPoint:
    """One place in the model. ``layer`` counts blocks from 0; ``str()`` is the canonical name."""

    layer: int
    site: Site

    def __str__(self) -> str:
        return f"blocks.{self.layer}.hook_{self.site.value}"

    @property
    def layer_count(self) -> int:
        """Blocks that have to exist for this place to be reached."""
        return self.layer + 1


_PATTERNS: tuple[tuple[re.Pattern[str], Site], ...] = (
    (re.compile(r"blocks\.(\d+)\.hook_resid_post"), Site.RESIDUAL_POST),
    (re.compile(r"blocks\.(\d+)\.hook_resid_pre"), Site.RESIDUAL_PRE),
    (re.compile(r"(?:model\.|transformer\.|gpt_neox\.)?(?:layers|h)\.(\d+)"), Site.RESIDUAL_POST),
)

_BLOCK_LISTS = ("layers", "h", "blocks")


def parse_hook(name: str) -> HookPoint:
    """Read a SAELens, TransformerLens or Hugging Face module name.

    Raises:
        Unimplemented: UNSUPPORTED, with the name as it was given.
    """
    for pattern, site in _PATTERNS:
        match = pattern.fullmatch(name)
        if match:
            return HookPoint(layer=int(match.group(1)), site=site)
    raise Unimplemented(
        f"hook {name!r} is not supported; residual stream hooks are "
        "(blocks.<n>.hook_resid_pre, blocks.<n>.hook_resid_post, model.layers.<n>)",
        metadata={"hook": name},
    )


def block_list(base_model: nn.Module) -> nn.ModuleList:
    """The blocks of a Hugging Face base model, whatever its family calls them.

    Raises:
        Unimplemented: UNSUPPORTED where none of the known names is there.
    """
    for name in _BLOCK_LISTS:
        blocks = getattr(base_model, name, None)
        if isinstance(blocks, nn.ModuleList):
            return blocks
    family = type(base_model).__name__
    raise Unimplemented(
        f"{family} has no list of blocks under any of {', '.join(_BLOCK_LISTS)}",
        metadata={"model_class": family},
    )


def hooked_block(base_model: nn.Module, hook: HookPoint) -> nn.Module:
    """The block at ``hook``.

    Raises:
        FailedPrecondition: STATE_CONFLICT where the model has fewer blocks.
    """
    blocks = block_list(base_model)
    if hook.layer >= len(blocks):
        raise FailedPrecondition(
            f"hook {hook} wants block {hook.layer}, the loaded model has {len(blocks)}",
            metadata={"hook": str(hook), "layer_count": str(len(blocks))},
            reason="STATE_CONFLICT",
        )
    return blocks[hook.layer]
