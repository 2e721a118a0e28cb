"""One position behind one prefix, for many tokens: the prefix is computed once.

The prefix's keys and values are cached per block as ``[1, heads, prefix, d_head]`` and never
copied per token: the scores of all tokens against the prefix are one matrix product per head, to
which each token adds its score against itself. The family's own code runs otherwise (norms,
rotary embedding, biases), through transformers' attention interface, so what is computed is a row
``prefix + token`` up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import AttentionInterface
from transformers.cache_utils import DynamicCache

from services.activation.encoder.hooks import HookPoint
from services.activation.encoder.model import CutModel
from services.activation.encoder.rows import TokenRow, check_rows
from services.common.errors import Unimplemented

_INTERFACE = "saexplain_shared_prefix"
_UNSUPPORTED = ("s_aux", "position_bias", "cache")
"""Arguments by which a family changes attention in ways that are not computed here."""


@dataclass(frozen=True)
class SharedPrefix:
    """Keys and values of one prefix, up to one hook of one model."""

    hook: HookPoint
    length: int
    """Tokens of the prefix, the begin-of-sequence token included."""
    blocks: Mapping[int, tuple[Tensor, Tensor]]
    """Per block: keys and values, each [1, key heads, prefix, d_head]."""


def share_prefix(model: CutModel, prefix: TokenRow, hook: HookPoint) -> SharedPrefix:
    """Compute a prefix once.

    Args:
        model: The cut model.
        prefix: Token ids, the begin-of-sequence token first.
        hook: Where the tokens behind it will be read.

    Raises:
        InvalidArgument: TEXT_EMPTY, TEXT_TOO_LONG or FIELD_INVALID.
    """
    check_rows(
        [prefix],
        vocabulary_size=model.vocabulary_size,
        maximum_tokens=model.maximum_positions - 1,
    )
    cache = DynamicCache()
    ids = torch.from_numpy(np.ascontiguousarray(prefix, dtype=np.int64))[None]
    model.hidden_states_at(ids, (hook,), past_key_values=cache, use_cache=True)
    layers: list[Any] = list(cache.layers)
    blocks = {
        index: (layer.keys, layer.values)
        for index, layer in enumerate(layers)
        if layer.keys is not None
    }
    return SharedPrefix(hook, len(prefix), blocks)


def states_behind(
    model: CutModel, prefix: SharedPrefix, token_ids: Int[Tensor, " tokens"]
) -> Float[Tensor, "tokens width"]:
    """What the hook reads at each token, as if it stood alone behind the prefix.

    Raises:
        Unimplemented: UNSUPPORTED, the family changes attention in an unknown way.
    """
    with model.turn, _attending(model.config, prefix.blocks):
        states = model.hidden_states_at(
            token_ids[:, None],
            (prefix.hook,),
            position_ids=torch.full((1, 1), prefix.length, device=model.device),
            past_key_values=_SeenPrefix(prefix.length),
            use_cache=True,
        )
    return states[prefix.hook][:, 0]


class _SeenPrefix:
    """What a model asks of a cache: how much was seen. The keys of the tokens pass through."""

    is_compileable = False

    def __init__(self, length: int) -> None:
        self._length = length

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self._length

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        return keys, values


_Blocks = Mapping[int, tuple[Tensor, Tensor]]
_prefix: ContextVar[_Blocks] = ContextVar("prefix")


@contextmanager
def _attending(config: Any, blocks: _Blocks) -> Iterator[None]:
    """While open, the model's attention looks at ``blocks`` and at the token itself."""
    usual = config._attn_implementation
    token = _prefix.set(blocks)
    config._attn_implementation = _INTERFACE
    try:
        yield
    finally:
        config._attn_implementation = usual
        _prefix.reset(token)


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
    """Attention of ``[tokens, heads, 1, d_head]`` to the shared prefix and to the token itself."""
    del attention_mask  # one new position sees all of the prefix
    for name in _UNSUPPORTED:
        if others.get(name) is not None:
            raise Unimplemented(f"attention with {name} behind a shared prefix")
    keys, values = _prefix.get()[module.layer_idx]
    if sliding_window is not None:
        begin = max(0, keys.shape[2] - (sliding_window - 1))
        keys, values = keys[:, :, begin:], values[:, :, begin:]
    tokens, heads, _, width = query.shape
    groups = heads // keys.shape[1]
    # [kv heads, tokens * groups, d_head]: one product per key head, nothing repeated.
    grouped = query.reshape(tokens, -1, groups, width).permute(1, 0, 2, 3)
    flat = grouped.reshape(len(grouped), tokens * groups, width)
    own = (grouped * key.permute(1, 0, 2, 3)).sum(-1).reshape(len(grouped), -1, 1)
    scores = torch.cat([flat @ keys[0].transpose(1, 2), own], dim=-1)
    scores = scores * (width**-0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    mixed = (weights[..., :-1] @ values[0]).reshape(len(grouped), tokens, groups, -1)
    mixed = mixed + weights[..., -1].reshape(len(grouped), tokens, groups, 1) * value.permute(
        1, 0, 2, 3
    )
    return mixed.permute(1, 0, 2, 3).reshape(tokens, 1, heads, -1), None


AttentionInterface.register(_INTERFACE, _attend)
