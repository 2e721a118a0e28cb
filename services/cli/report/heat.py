"""Tokens as a heat map: what to show of each, and how warm it is.

Corpus text is data: whatever it holds is shown and nothing of it takes effect. Markup is
escaped by the template; control characters, text-direction overrides and bytes that are no
UTF-8 are replaced here by what they are called.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from saexplain.common.v1.text_pb2 import TokenSpan

_SHOWN = {"\n": "↵\n", "\r": "␍", "\t": "⇥\t"}
# Control, format (text direction), private, surrogate, unassigned, line, paragraph.
_UNSAFE = frozenset({"Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"})


@dataclass(frozen=True)
class HeatToken:
    """One token of a heat map.

    Attributes:
        text: what to show.
        share: activation as a share of the reference maximum, clipped to [0, 1].
        note: the value in words, for hovering. Empty where the feature is silent.
        strong: at or above the threshold of ACTIVE.
    """

    text: str
    share: float
    note: str
    strong: bool


def visible_text(text: str) -> str:
    """The text with line breaks, tabs and unsafe characters made visible."""
    return "".join(_visible(character) for character in text)


def visible_bytes(token: bytes) -> str:
    """A token's bytes as text; bytes that are no UTF-8 by themselves as `\\xNN`."""
    return visible_text(token.decode("utf-8", "backslashreplace"))


def heat_tokens(
    span: TokenSpan, activations: Sequence[float], reference_max: float, active_share: float
) -> list[HeatToken]:
    """A heat token per token of the span.

    Args:
        span: the tokens.
        activations: one value per token, or none at all for tokens that are only read.
        reference_max: what is as warm as it gets. Where it is 0, the largest activation.
        active_share: share of it from which a token counts as ACTIVE.

    Raises:
        ValueError: as many activations as tokens are needed.
    """
    if not activations:
        return [HeatToken(visible_bytes(token), 0.0, "", False) for token in span.token_bytes]
    if len(activations) != len(span.token_bytes):
        raise ValueError(f"{len(activations)} activations for {len(span.token_bytes)} tokens")
    unit = reference_max or max(activations) or 1.0
    return [
        _heat_token(token, value, unit, active_share)
        for token, value in zip(span.token_bytes, activations, strict=True)
    ]


def _heat_token(token: bytes, value: float, unit: float, active_share: float) -> HeatToken:
    share = value / unit
    note = f"{value:.2f} · {share:.0%} of reference" if value > 0 else ""
    return HeatToken(visible_bytes(token), min(max(share, 0.0), 1.0), note, share >= active_share)


def _visible(character: str) -> str:
    if character in _SHOWN:
        return _SHOWN[character]
    if unicodedata.category(character) in _UNSAFE:
        return f"⟨U+{ord(character):04X}⟩"
    return character
