"""Records of what the weights say of a feature. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scored:
    """An index (feature or token) and its score."""

    index: int
    score: float


@dataclass(frozen=True)
class FeatureFacts:
    """Weight-based facts of one feature."""

    feature: int
    decoder_norm: float
    """Euclidean length of the decoder row."""
    nearest_features: tuple[Scored, ...]
    """Other features by cosine of decoder rows, closest first."""
    promoted_tokens: tuple[Scored, ...]
    """Output tokens by logit added, largest first."""
    suppressed_tokens: tuple[Scored, ...]
    """Output tokens by logit added, smallest first."""
    tokens_absent_reason: str = ""
    """Why neither list of tokens is there; empty where they are."""
