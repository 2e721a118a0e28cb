"""What a probe of the vocabulary may ask."""

from __future__ import annotations

from dataclasses import dataclass

from services.activation.encoder.tokenizer import TextLimits


@dataclass(frozen=True)
class ProbeLimits:
    """What one probe may ask, and how many run at a time."""

    text: TextLimits
    max_carriers: int
    max_features: int
    """Features that are named; all of them may be asked for by naming none."""
    max_running: int
    """Probes that run at a time; more are refused with a time to wait."""
    batch_tokens: int
    """Tokens of one forward pass."""
    page_features: int
    """Features of one page of top tokens."""
