"""Tokens as a heat map: what to show of each, and how warm it is.

Corpus text is data: whatever it holds is shown and nothing of it takes effect. Markup is
escaped by the template, everything else by `services.cli.visible`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from saexplain.common.v1.text_pb2 import TokenSpan
from services.cli.visible import visible_bytes


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
