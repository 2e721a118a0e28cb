"""Reads one tensor out of a forward pass: a module's input or output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from services.activation.encoder.families import NormKind, Side, Tap, submodule
from services.activation.encoder.hooks import HookPoint
from services.common.errors import Unimplemented

Keep = Callable[[HookPoint, Tensor], None]
"""Takes what was read; may raise to end the forward pass."""


@dataclass(frozen=True)
class Reader:
    """One tensor of one module. Looked up once, attached for every forward pass."""

    module: nn.Module
    side: Side = Side.OUTPUT
    transform: Callable[[Tensor], Tensor] | None = None
    """Applied to what was read."""
    width: int | None = None
    """Length of the vectors, where it is not that of the residual stream."""

    def attach(self, hook: HookPoint, keep: Keep) -> torch.utils.hooks.RemovableHandle:
        """Hand what is read as ``hook`` to ``keep`` until the handle is removed."""

        def take(tensor: Tensor) -> None:
            keep(hook, tensor if self.transform is None else self.transform(tensor))

        def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            take(args[0] if args else kwargs["hidden_states"])

        def after(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
            take(output[0] if isinstance(output, tuple) else output)

        if self.side is Side.INPUT:
            return self.module.register_forward_pre_hook(before, with_kwargs=True)
        return self.module.register_forward_hook(after)


def reader_of(block: nn.Module, tap: Tap, norm: NormKind) -> Reader:
    """The reader of a tap in one block.

    Raises:
        Unimplemented: UNSUPPORTED where the block has no such module.
    """
    module = submodule(block, tap.path)
    if tap.normalized:
        return Reader(module, tap.side, _normalizer(norm, _epsilon(module)))
    return Reader(module, tap.side, width=_input_width(module) if tap.side is Side.INPUT else None)


def _normalizer(kind: NormKind, epsilon: float) -> Callable[[Tensor], Tensor]:
    """TransformerLens' ``hook_normalized``: a norm before its weight and bias."""

    def normalize(x: Float[Tensor, "... width"]) -> Float[Tensor, "... width"]:
        x = x.to(torch.float32)
        if kind is NormKind.LAYER:
            x = x - x.mean(dim=-1, keepdim=True)
        return x / (x.pow(2).mean(dim=-1, keepdim=True) + epsilon).sqrt()

    return normalize


def _epsilon(module: nn.Module) -> float:
    for name in ("eps", "variance_epsilon"):
        value = getattr(module, name, None)
        if isinstance(value, float):
            return value
    raise Unimplemented(f"{type(module).__name__} names no epsilon under a known name")


def _input_width(module: nn.Module) -> int | None:
    """Rows that a projection reads; ``transformers``' ``Conv1D`` is a transposed linear layer."""
    if isinstance(module, nn.Linear):
        return module.in_features
    if type(module).__name__ == "Conv1D":
        weight: Any = module.weight
        return int(weight.shape[0])
    return None
