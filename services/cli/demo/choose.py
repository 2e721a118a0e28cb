"""Draws features of different kinds from an index, by seed.

A feature's kind is what its strongest exemplars peak on: the class of the token (a word,
the rest of a word, digits, punctuation, ...), and whether that is one token or several.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from saexplain.activation.v1 import activation_pb2 as activation
from saexplain.common.v1.feature_pb2 import FEATURE_STRATUM_ELIGIBLE
from saexplain.common.v1.window_pb2 import (
    SPLIT_EXPLAIN,
    WINDOW_STRATEGY_TOP,
    Window,
    WindowSelection,
)
from services.common.errors import FailedPrecondition
from services.common.grpc_client import rpc_errors

_DRAWN_PER_WANTED = 4
_AT_ONCE = 8
_TIMEOUT_SECONDS = 60.0
_ONE_TOKEN_SHARE = 0.8


@dataclass(frozen=True)
class ChosenFeature:
    """A feature and what it is an example of."""

    index: int
    kind: str


async def choose_features(
    stub: Any, sae: activation.Sae, count: int, seed: int
) -> list[ChosenFeature]:
    """Draws eligible features so that as many kinds as possible are among them.

    Args:
        stub: stub of `ActivationService`.
        sae: the SAE; its default index is read.
        count: how many.
        seed: the same seed on the same index gives the same features.

    Raises:
        FailedPrecondition: too few of those drawn are eligible.
        SaexplainError: what the service answers.
    """
    rng = random.Random(seed)
    drawn = rng.sample(range(sae.d_sae), min(sae.d_sae, count * _DRAWN_PER_WANTED))
    gate = asyncio.Semaphore(_AT_ONCE)
    kinds = await asyncio.gather(*(_kind_of(stub, gate, sae.name, index) for index in drawn))
    eligible = [
        ChosenFeature(index, kind)
        for index, kind in zip(drawn, kinds, strict=True)
        if kind is not None
    ]
    if len(eligible) < count:
        raise FailedPrecondition(
            f"only {len(eligible)} of {len(drawn)} features drawn from {sae.name} are eligible"
        )
    return spread(eligible, count)


def spread(features: Sequence[ChosenFeature], count: int) -> list[ChosenFeature]:
    """The first of every kind, then the second of every kind, and so on."""
    seen: Counter[str] = Counter()
    ranked = []
    for order, feature in enumerate(features):
        ranked.append((seen[feature.kind], order, feature))
        seen[feature.kind] += 1
    return [feature for _, _, feature in sorted(ranked, key=lambda entry: entry[:2])[:count]]


def kind_of_windows(windows: Sequence[Window]) -> str:
    """The kind of a feature with these exemplars; at least one."""
    peaks = []
    for window in windows:
        at = max(range(len(window.activations)), key=window.activations.__getitem__)
        before = window.tokens.token_bytes[at - 1] if at else b""
        peaks.append((window.tokens.token_bytes[at], before))
    classes = Counter(token_class(token, before) for token, before in peaks)
    commonest = Counter(token.strip().lower() for token, _ in peaks).most_common(1)[0][1]
    variety = "one token" if commonest >= _ONE_TOKEN_SHARE * len(peaks) else "several tokens"
    return f"{classes.most_common(1)[0][0]}, {variety}"


def token_class(token: bytes, before: bytes = b"") -> str:
    """A token's class in words; `before` is the token to its left."""
    text = token.decode("utf-8", "replace")
    word = text.strip()
    if "\n" in text:
        return "line break"
    if not word:
        return "whitespace"
    if word.isdigit():
        return "digits"
    if not any(character.isalnum() for character in word):
        return "punctuation"
    if not text.startswith(" ") and before[-1:].isalpha():
        return "rest of a word"
    return "capitalised word" if word[0].isupper() else "word"


async def _kind_of(stub: Any, gate: asyncio.Semaphore, sae: str, index: int) -> str | None:
    """The kind of a feature; None if it is not eligible."""
    name = f"{sae}/features/{index}"
    selection = WindowSelection(strategy=WINDOW_STRATEGY_TOP, split=SPLIT_EXPLAIN, count=10)
    async with gate, rpc_errors():
        found = await stub.GetFeature(
            activation.GetFeatureRequest(name=name), timeout=_TIMEOUT_SECONDS
        )
        if found.facts.stratum != FEATURE_STRATUM_ELIGIBLE:
            return None
        request = activation.ListExemplarsRequest(feature=name, selections=[selection])
        exemplars = await stub.ListExemplars(request, timeout=_TIMEOUT_SECONDS)
    return kind_of_windows(exemplars.lists[0].windows)
