"""What stands in front of a token while the vocabulary is probed (method, section 4.1).

A bare token behind the beginning of sequence wakes few features, three words of context wake
many more; so the carriers that count are short phrases whose next word is wide open: a noun, a
verb, a word at the start of a clause.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np

from services.activation.encoder.rows import TokenRow
from services.activation.encoder.tokenizer import TextLimits, TextTokenizer

SHORT_TEXTS = ("It was the", "They wanted to", "Well, he said")


class CarrierKind(enum.StrEnum):
    """Where a carrier comes from."""

    SHORT = "short"
    EXEMPLAR = "exemplar"
    BARE = "bare"
    CUSTOM = "custom"


@dataclass(frozen=True)
class Carrier:
    """A prefix with its name."""

    name: str
    kind: CarrierKind
    ids: tuple[int, ...]
    """Tokens behind the beginning-of-sequence token; empty for BARE."""

    def row(self, tokenizer: TextTokenizer) -> TokenRow:
        """The prefix as the model reads it."""
        return np.array([*tokenizer.prefix, *self.ids], dtype=np.int64)


def short_carriers(tokenizer: TextTokenizer) -> tuple[Carrier, ...]:
    """The three fixed carriers: the same for all features of all SAEs of a model."""
    texts = tokenizer.tokenize(SHORT_TEXTS, TextLimits())
    return tuple(
        Carrier(f"short-{place}", CarrierKind.SHORT, tuple(text.ids[text.prefix_count :].tolist()))
        for place, text in enumerate(texts, start=1)
    )


def bare_carrier() -> Carrier:
    """Nothing but the beginning of sequence; for diagnosis."""
    return Carrier("bare", CarrierKind.BARE, ())
