"""Rows of any lengths side by side in one forward pass, without padding.

All tokens of a pass stand in one row of the model's input, each with its own position; attention
alone is told where rows begin and end and runs row by row. Norms, projections and MLPs, which are
nearly all of the work, see only real tokens. The family's own code runs otherwise, through
transformers' attention interface, so that what is computed is a row of its own up to rounding.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from services.activation.encoder.hooks import HookPoint
from services.activation.encoder.model import CutModel
from services.activation.encoder.rows import TokenRow
from services.common.errors import Unimplemented

_INTERFACE = "saexplain_packed_rows"
_UNSUPPORTED = ("s_aux", "position_bias", "cache")
"""Arguments by which a family changes attention in ways that are not computed here."""


def packed_states(
    model: CutModel, rows: Sequence[TokenRow], hooks: Collection[HookPoint]
) -> dict[HookPoint, Float[Tensor, "tokens width"]]:
    """The tensors at all ``hooks``, rows joined in the order given, from one forward pass.

    Where the device has no memory for the pass, each half of the rows gets one of its own: how
    much fits depends on what else the device holds.

    Raises:
        FailedPrecondition: STATE_CONFLICT where the model has fewer blocks.
        Unimplemented: UNSUPPORTED where the family has no such place, or attends in an unknown way.
        torch.OutOfMemoryError: One row alone is too much.
    """
    try:
        return _one_pass(model, rows, hooks)
    except torch.OutOfMemoryError:
        if len(rows) == 1:
            raise
    half = len(rows) // 2  # outside of the handler, which would keep the failed pass alive
    parts = [packed_states(model, some, hooks) for some in (rows[:half], rows[half:])]
    return {hook: torch.cat([part[hook] for part in parts]) for hook in parts[0]}


def _one_pass(
    model: CutModel, rows: Sequence[TokenRow], hooks: Collection[HookPoint]
) -> dict[HookPoint, Float[Tensor, "tokens width"]]:
    bounds = (0, *np.cumsum([len(row) for row in rows]).tolist())
    ids = _join(rows, model.device)
    positions = _join([np.arange(len(row)) for row in rows], model.device)
    with model.turn, _attending(model.config, bounds):
        states = model.hidden_states_at(ids, hooks, position_ids=positions)
    return {hook: tensor[0] for hook, tensor in states.items()}


def _join(rows: Sequence[TokenRow], device: torch.device) -> Int[Tensor, "1 tokens"]:
    joined = torch.from_numpy(np.concatenate(rows).astype(np.int64, copy=False))[None]
    if device.type == "cuda":  # a copy from pinned memory does not wait for the device
        return joined.pin_memory().to(device, non_blocking=True)
    return joined.to(device)


_bounds: ContextVar[tuple[int, ...]] = ContextVar("bounds")


@contextmanager
def _attending(config: Any, bounds: tuple[int, ...]) -> Iterator[None]:
    """While open, the model's attention stays within the rows that ``bounds`` separate."""
    usual = config._attn_implementation
    token = _bounds.set(bounds)
    config._attn_implementation = _INTERFACE
    try:
        yield
    finally:
        config._attn_implementation = usual
        _bounds.reset(token)


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Causal attention of ``[1, heads, tokens, d_head]``, each row for itself."""
    del attention_mask  # every row is causal, and sees nothing of the others
    for name in _UNSUPPORTED:
        if others.get(name) is not None:
            raise Unimplemented(f"attention with {name} over packed rows")
    _, heads, tokens, _ = query.shape
    mixed = query.new_empty((1, tokens, heads, value.shape[-1]))
    for begin, end in pairwise(_bounds.get()):
        q, k, v = (part[:, :, begin:end] for part in (query, key, value))
        mask = _window_mask(end - begin, sliding_window, query.device)
        if softcap is None:
            out = scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=True
            )
        else:
            out = _softcapped(q, k, v, mask, scaling, softcap)
        mixed[:, begin:end] = out.transpose(1, 2)
    return mixed, None


def _window_mask(length: int, window: int | None, device: torch.device) -> Tensor | None:
    """[length, length] of which keys a query sees, None where it sees all that came before."""
    if window is None or length <= window:
        return None
    place = torch.arange(length, device=device)
    distance = place[:, None] - place[None, :]
    return (distance >= 0) & (distance < window)


def _softcapped(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float | None,
    softcap: float,
) -> Tensor:
    """Attention whose scores are bent to ``(-softcap, softcap)``, as Gemma 2 has it."""
    groups, length = query.shape[1] // key.shape[1], query.shape[2]
    key, value = (part.repeat_interleave(groups, dim=1) for part in (key, value))
    scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    scores = torch.tanh(scores / softcap) * softcap
    seen = torch.ones(length, length, dtype=torch.bool, device=query.device).tril()
    scores = scores.masked_fill(~(seen if mask is None else mask), float("-inf"))
    return scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype) @ value


AttentionInterface.register(_INTERFACE, _attend)
