"""Checks indexes against the model, and two indexes against each other, from outside.

Uses the public contracts only. A window whose context is known from its first token is
encoded again and compared with what the index recorded; windows that both indexes hold
are compared with each other as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from saexplain.activation.v1 import activation_pb2 as activation
from saexplain.common.v1.window_pb2 import (
    SPLIT_EXPLAIN,
    SPLIT_HELDOUT,
    SPLIT_SELECT,
    WINDOW_STRATEGY_RANDOM_ACTIVE,
    WINDOW_STRATEGY_TOP,
    Window,
    WindowSelection,
)
from services.common.errors import FailedPrecondition
from services.common.grpc_client import rpc_errors
from services.common.tensors import from_tensor

_TIMEOUT_SECONDS = 120.0
_LEFT_CONTEXT = 64
_WINDOWS_PER_SELECTION = 6
_STRATEGIES = (WINDOW_STRATEGY_TOP, WINDOW_STRATEGY_RANDOM_ACTIVE)
_SPLITS = (SPLIT_EXPLAIN, SPLIT_SELECT, SPLIT_HELDOUT)


@dataclass
class Comparison:
    """What was compared, and how far apart it was.

    Attributes:
        window_count: windows of the two indexes that were encoded again.
        value_count: values of theirs that were compared.
        shared_count: windows that both indexes hold.
        largest_difference: of all comparisons, as a share of the feature's maximum.
        flip_count: values that are 0 on one side only, where the other one is beyond the
            tolerance: TopK turns rounding into value or zero.
        beyond_count: other differences beyond the tolerance.
        tolerance: the SAE's own.
    """

    tolerance: float
    window_count: int = 0
    value_count: int = 0
    shared_count: int = 0
    largest_difference: float = 0.0
    flip_count: int = 0
    beyond_count: int = 0

    @property
    def agrees(self) -> bool:
        """True if something was compared, nothing is beyond the tolerance, and fewer than
        one value in a thousand flipped."""
        few_flips = self.flip_count * 1000 <= self.value_count
        return self.value_count > 0 and self.beyond_count == 0 and few_flips

    def add(self, ours: Sequence[float], theirs: Sequence[float], unit: float) -> None:
        """Compares two lists of activations; `unit` is the feature's maximum."""
        left, right = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
        difference = np.abs(left - right) / unit
        beyond = difference > self.tolerance
        flips = beyond & ((left == 0) != (right == 0))
        self.value_count += left.size
        self.flip_count += int(flips.sum())
        self.beyond_count += int((beyond & ~flips).sum())
        self.largest_difference = max(
            self.largest_difference, float(difference[~flips].max(initial=0.0))
        )


async def compare_indexes(
    stub: Any, sae: activation.Sae, indexes: tuple[str, str], features: Iterable[int]
) -> Comparison:
    """Compares two indexes over parts of the same corpus on some features.

    Args:
        stub: stub of `ActivationService`.
        sae: the SAE with its numerics contract.
        indexes: names of the indexes.
        features: indices of features.

    Raises:
        FailedPrecondition: there was nothing to compare.
        SaexplainError: what the service answers.
    """
    comparison = Comparison(tolerance=sae.numerics.relative_tolerance)
    for index in features:
        name = f"{sae.name}/features/{index}"
        async with rpc_errors():
            request = activation.GetFeatureRequest(name=name)
            facts = (await stub.GetFeature(request, timeout=_TIMEOUT_SECONDS)).facts
        unit = facts.max_activation
        if unit <= 0:
            continue
        first, second = [await _windows(stub, name, held) for held in indexes]
        await _encode_again(
            stub,
            sae.name,
            index,
            [*first.values(), *second.values()],
            unit,
            comparison,
        )
        for key in first.keys() & second.keys():
            comparison.shared_count += 1
            comparison.add(first[key].activations, second[key].activations, unit)
    if comparison.value_count == 0:
        raise FailedPrecondition("the indexes hold no window that could be compared")
    return comparison


_Key = tuple[str, int, tuple[int, ...]]


async def _windows(stub: Any, feature: str, index: str) -> dict[_Key, Window]:
    """Windows of a feature by document, place in the context, and tokens."""
    request = activation.ListExemplarsRequest(
        feature=feature,
        index=index,
        selections=[
            WindowSelection(strategy=strategy, split=split, count=_WINDOWS_PER_SELECTION)
            for strategy in _STRATEGIES
            for split in _SPLITS
        ],
        left_context_token_count=_LEFT_CONTEXT,
    )
    async with rpc_errors():
        response = await stub.ListExemplars(request, timeout=_TIMEOUT_SECONDS)
    windows = [window for listed in response.lists for window in listed.windows]
    return {
        (w.document, w.context_position, (*w.left_context.token_ids, *w.tokens.token_ids)): w
        for w in windows
    }


async def _encode_again(
    stub: Any,
    sae: str,
    feature: int,
    windows: Sequence[Window],
    unit: float,
    comparison: Comparison,
) -> None:
    """Encodes the windows whose context is known from its first token, and compares."""
    known = [w for w in windows if len(w.left_context.token_ids) == w.context_position]
    if not known:
        return
    request = activation.EncodeRequest(
        sae=sae,
        feature_indices=[feature],
        texts=[
            activation.TextInput(
                token_ids=activation.TokenIds(
                    ids=[*window.left_context.token_ids, *window.tokens.token_ids]
                )
            )
            for window in known
        ],
    )
    async with rpc_errors():
        async for page in stub.Encode(request, timeout=_TIMEOUT_SECONDS):
            for text in page.texts:
                window = known[text.text_index]
                values = from_tensor(text.activations)[:, 0]
                begin = window.context_position
                comparison.window_count += 1
                comparison.add(window.activations, values[begin:].tolist(), unit)
