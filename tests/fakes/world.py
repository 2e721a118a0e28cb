"""A small language in which features are sets of words, so that truth is known by hand.

Tokens are words with their leading space. Feature k fires at the words of `FEATURES[k]`
with activation 8 to 10, by the word's place in the list, and at nothing else.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from saexplain.common.v1 import text_pb2, window_pb2

SAE = "saes/tiny"
INDEX = "projects/default/indexes/tiny"
D_SAE = 8
FEATURES: dict[int, tuple[str, ...]] = {
    0: ("red", "green", "blue", "yellow"),
    1: ("run", "walk"),
    2: ("cat", "dog", "horse", "cow"),
    3: (),
}
EDGES = {(0, "amber"): 5.0, (0, "ochre"): 3.0}
"""Words outside of the corpus: at feature 0 one is on the threshold of ACTIVE, one is WEAK."""
FILLERS = (
    "the",
    "a",
    "of",
    "in",
    "stone",
    "river",
    "table",
    "glass",
    "winter",
    "morning",
    "paper",
    "window",
    "garden",
    "letter",
    "music",
    "bridge",
    "candle",
    "mirror",
    "shadow",
    "basket",
    "engine",
    "valley",
    "harbor",
    "silver",
    "copper",
    "thunder",
)
WORDS = tuple(w for words in FEATURES.values() for w in words) + FILLERS
SPLITS = {
    window_pb2.SPLIT_EXPLAIN: 150,
    window_pb2.SPLIT_SELECT: 60,
    window_pb2.SPLIT_HELDOUT: 90,
}
WINDOW_TOKENS = 8
_TOKEN = re.compile(r"\s*\S+\s*$|\s*\S+")


def tokenize(text: str) -> list[str]:
    """The tokens of a text; joined they are the text."""
    return _TOKEN.findall(text)


def token_id(token: str) -> int:
    """The id of a token: words of the language by their place, others behind them."""
    word = token.strip().lower()
    base = WORDS.index(word) if word in WORDS else len(WORDS) + sum(token.encode()) % 100
    return 2 * base + token.startswith(" ")


def token_of(identifier: int) -> str:
    """The token of an id of the language."""
    word = WORDS[identifier // 2]
    return f" {word}" if identifier % 2 else word


def value(feature: int, token: str) -> float:
    """The activation of a feature at a token."""
    words = FEATURES.get(feature, ())
    word = token.strip().lower()
    if (feature, word) in EDGES:
        return EDGES[feature, word]
    return 10.0 - 2.0 * words.index(word) / max(len(words), 1) if word in words else 0.0


def span(tokens: list[str]) -> text_pb2.TokenSpan:
    """Tokens as the message that carries them."""
    return text_pb2.TokenSpan(
        token_ids=[token_id(t) for t in tokens], token_bytes=[t.encode() for t in tokens]
    )


@dataclass(frozen=True)
class Context:
    """A window of the corpus."""

    name: str
    split: window_pb2.Split.ValueType
    tokens: tuple[str, ...]

    def maximum(self, feature: int) -> float:
        """The largest activation of a feature."""
        return max(value(feature, token) for token in self.tokens)

    def window(
        self,
        feature: int,
        strategy: window_pb2.WindowStrategy.ValueType,
        inclusion_probability: float,
    ) -> window_pb2.Window:
        """The window with a feature's activations."""
        return window_pb2.Window(
            name=self.name,
            document=self.name.rsplit("/", 1)[-1],
            source="fake",
            kind="prose",
            split=self.split,
            tokens=span(list(self.tokens)),
            activations=[value(feature, token) for token in self.tokens],
            max_activation=self.maximum(feature),
            inclusion_probability=inclusion_probability,
            strategy=strategy,
        )


def _corpus() -> list[Context]:
    rng = random.Random(7)
    contexts = []
    for split, count in SPLITS.items():
        for _ in range(count):
            words = rng.choices(FILLERS, k=WINDOW_TOKENS)
            if rng.random() < 0.5:
                feature = rng.choice([0, 1, 2])
                words[rng.randrange(1, WINDOW_TOKENS)] = rng.choice(FEATURES[feature])
            tokens = tuple(w if i == 0 else f" {w}" for i, w in enumerate(words))
            contexts.append(Context(f"indexes/tiny/windows/{len(contexts)}", split, tokens))
    return contexts


CORPUS = _corpus()
