"""A made feature, and sentences on which it fires."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from saexplain.common.v1.text_pb2 import TokenSpan

REFERENCE_MAX = 12.5
_TOKEN = re.compile(r" ?[^\W\d_]+| ?\d|\s|.", re.DOTALL)
TEMPLATES = (
    "It was {} certain that the ship would not leave the harbour before the tide turned.",
    "The committee had {} finished,\nwhen the lights went out in the old hall.",
    "She answered {} at once, and nobody in the room — not even Karl — objected.",
    "    return {}(value)  # the caller keeps the lock",
    "He had walked {} ten miles; the café at the corner was still open.",
    "Nothing remained of the village but a {} ruined wall and two apple trees.",
)


@dataclass(frozen=True)
class FeatureSketch:
    """What a made feature is.

    Attributes:
        index: its index in the SAE.
        label: label of its explanation.
        triggers: words on which it fires, strongest first.
        fillers: words like them on which it does not.
    """

    index: int = 1843
    label: str = "words for “not quite”"
    triggers: tuple[str, ...] = ("almost", "nearly", "virtually")
    fillers: tuple[str, ...] = ("surely", "plainly", "quietly")


def tokens_of(text: str) -> TokenSpan:
    """The text cut into words with their leading space; ids are positions in the text."""
    pieces = _TOKEN.findall(text)
    ends, at = [], 0
    for piece in pieces:
        at += len(piece.encode())
        ends.append(at)
    return TokenSpan(
        token_ids=range(len(pieces)),
        token_bytes=[piece.encode() for piece in pieces],
        byte_begins=[0, *ends[:-1]],
        byte_ends=ends,
    )


class Parts:
    """What all parts of a made dossier share.

    Args:
        sketch: the feature.
        seed: of everything made up.
        explainer: `lexical`, or `sage` with the usage of a language model.
        hostile: put into every free text, such as markup that must not come alive.
    """

    def __init__(
        self,
        sketch: FeatureSketch | None = None,
        *,
        seed: int = 0,
        explainer: str = "lexical",
        hostile: str = "",
    ) -> None:
        self._sketch = sketch or FeatureSketch()
        self._rng = random.Random(seed)
        self._explainer = explainer
        self._hostile = hostile
        self._name = f"saes/demo/features/{self._sketch.index}"

    def _activations(self, span: TokenSpan, word: str) -> list[float]:
        values = []
        for token in span.token_bytes:
            hit = bool(word) and token.decode().strip() == word
            share = self._rng.uniform(0.55, 1.0) if hit else 0.0
            if not hit and self._rng.random() < 0.06:
                share = self._rng.uniform(0.02, 0.3)
            values.append(share * REFERENCE_MAX)
        return values
