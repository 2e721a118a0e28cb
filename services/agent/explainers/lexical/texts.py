"""Texts for probes: corpus carriers, and phrases cut from where a rule was seen.

A probe is a carrier, a stretch of corpus text in which the feature is silent, with a
phrase set in at a word boundary. Tokens are joined as bytes, and phrases and the rest of
the carrier begin where a tokenizer would cut anyway, so that the text is cut as intended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from saexplain.agent.v1.agent_pb2 import Evidence
from saexplain.common.v1.experiment_pb2 import Hypothesis
from saexplain.common.v1.pattern_pb2 import (
    TOKEN_CLASS_CONTEXT_START,
    TOKEN_CLASS_LINE_START,
    PatternRule,
)
from saexplain.common.v1.text_pb2 import TokenSpan
from services.agent.explainers.carriers import ENOUGH_CEILING
from services.agent.explainers.lexical.occurrences import Floats, Occurrences
from services.common.pattern import compile_pattern
from services.common.pattern.tokens import holds_line_break, text_of

LEFT_TOKENS, RIGHT_TOKENS = 14, 6
"""Most tokens of a carrier before and behind the phrase."""
LONG_LEFT_TOKENS = 26
"""The same before the phrase where short texts would lose the feature: 32 in all."""
_MIN_LEFT = 3


@dataclass(frozen=True)
class Carrier:
    """A silent stretch of corpus text, cut in two at a word boundary."""

    left: tuple[bytes, ...]
    right: tuple[bytes, ...]


@dataclass(frozen=True)
class Phrase:
    """Tokens with a trigger among them.

    Attributes:
        tokens: the trigger behind the tokens that its rule asks for.
        trigger: index of the trigger in `tokens`.
        at_start: whether it must open the text.
    """

    tokens: tuple[bytes, ...]
    trigger: int
    at_start: bool = False

    def with_token(self, place: int, token: bytes) -> Phrase:
        """The phrase with one token replaced."""
        return replace(self, tokens=(*self.tokens[:place], token, *self.tokens[place + 1 :]))


@dataclass(frozen=True)
class Draft:
    """A phrase in a carrier."""

    carrier: Carrier
    phrase: Phrase

    @property
    def tokens(self) -> tuple[bytes, ...]:
        """All tokens, as they are meant to be cut."""
        left = () if self.phrase.at_start else self.carrier.left
        return (*left, *self.phrase.tokens, *self.carrier.right)

    @property
    def trigger(self) -> int:
        """Index of the trigger in `tokens`."""
        left = 0 if self.phrase.at_start else len(self.carrier.left)
        return left + self.phrase.trigger

    @property
    def text(self) -> str | None:
        """The text, or None where the bytes are not UTF-8."""
        try:
            return b"".join(self.tokens).decode("utf-8")
        except UnicodeDecodeError:
            return None


class Predictor:
    """What several hypotheses predict together."""

    def __init__(self, hypotheses: Sequence[Hypothesis]) -> None:
        self._compiled = [compile_pattern(h.pattern) for h in hypotheses]

    def shares(self, tokens: Sequence[bytes]) -> Floats:
        """The largest share any of them predicts at each token of a text."""
        span = TokenSpan(token_ids=[0] * len(tokens), token_bytes=tokens)
        best = np.zeros(len(tokens))
        for compiled in self._compiled:
            best = np.maximum(best, compiled.predict(span))
        return best


def carriers(evidence: Evidence, rng: np.random.Generator) -> Iterator[Carrier]:
    """Endless carriers from windows in which the feature is silent, in random order; none
    where the evidence holds no such window with a word boundary."""
    length = left_tokens(evidence)
    silent = {
        w.name: tuple(w.tokens.token_bytes)
        for entry in evidence.windows
        for w in entry.windows
        if w.activations and max(w.activations) == 0
    }
    texts = [silent[name] for name in sorted(silent)]
    cuts = [(t, p) for t in texts for p in _boundaries(t)]
    while cuts:
        for i in rng.permutation(len(cuts)):
            tokens, place = cuts[i]
            left, right = tokens[:place], tokens[place : place + RIGHT_TOKENS]
            yield Carrier(_from_word_start(left[-length:]), right)


def left_tokens(evidence: Evidence) -> int:
    """Tokens of a carrier before the phrase: more where the feature's own exemplars, cut to
    the length of a probe, often stay below the threshold (method, section 1)."""
    low = evidence.HasField("ceiling") and evidence.ceiling.active_share < ENOUGH_CEILING
    return LONG_LEFT_TOKENS if low else LEFT_TOKENS


def neutral_words(evidence: Evidence) -> list[bytes]:
    """Lower-case words of silent windows at which the feature never fired."""
    seen: set[bytes] = set()
    fired: set[bytes] = set()
    for entry in evidence.windows:
        for w in entry.windows:
            silent = bool(w.activations) and max(w.activations) == 0
            pairs = zip(w.tokens.token_bytes, w.activations, strict=False)
            for token, value in pairs:
                if value > 0:
                    fired.add(token)
                elif silent and _starts_word(token) and text_of(token).islower():
                    seen.add(token)
    return sorted(seen - fired)


def phrase_at(
    occurrences: Occurrences, row: int, rule: PatternRule, max_left: int
) -> Phrase | None:
    """The phrase around a row at which the rule matches: the trigger and as much to its
    left as the rule asks for and a whole word needs. None where that is too much."""
    stretch = occurrences.stretches[int(occurrences.stretch[row])]
    first = int(np.searchsorted(occurrences.stretch, occurrences.stretch[row]))
    tokens = (*stretch.left.token_bytes, *stretch.tokens.token_bytes)
    place = len(stretch.left.token_bytes) + row - first
    if rule.token.token_class == TOKEN_CLASS_CONTEXT_START:
        begins = stretch.position == len(stretch.left.token_bytes)
        return Phrase(tokens[: place + 1], place, at_start=True) if begins else None
    needed = _needed_left(occurrences, row, rule)
    if needed is None:
        return None
    begin = place - needed
    while begin > 0 and not _can_begin(tokens[begin]) and place - begin < max_left:
        begin -= 1
    if begin < 0 or place - begin > max_left or not _can_begin(tokens[begin]):
        return None
    return Phrase(tokens[begin : place + 1], place - begin)


def _needed_left(occurrences: Occurrences, row: int, rule: PatternRule) -> int | None:
    """How many tokens to the left make the rule's conditions hold."""
    needed = 1 if rule.token.token_class == TOKEN_CLASS_LINE_START else 0
    history = occurrences.history[row]
    for condition in rule.left:
        if condition.negated:
            continue
        taken = np.zeros(len(occurrences.vocabulary) + 1, bool)
        for matcher in condition.any_of:
            taken |= occurrences.vocabulary_mask(matcher)
        found = np.flatnonzero(taken[history[: condition.max_distance]])
        if len(found) == 0:
            return None
        needed = max(needed, int(found[0]) + 1)
    return needed


def _boundaries(tokens: Sequence[bytes]) -> list[int]:
    """Where a phrase may be set in: before a word behind a word or a comma."""
    return [
        i
        for i in range(_MIN_LEFT, len(tokens))
        if _starts_word(tokens[i]) and text_of(tokens[i - 1])[-1:].isalpha()
    ]


def _from_word_start(tokens: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The tokens less what stands before their first whole word."""
    for i, token in enumerate(tokens):
        if _starts_word(token):
            return tokens[i:]
    return tokens


def _starts_word(token: bytes) -> bool:
    text = text_of(token)
    return text[:1] == " " and text[1:].isalpha()


def _can_begin(token: bytes) -> bool:
    """Whether a phrase may begin here without changing how its neighbours are cut."""
    text = text_of(token)
    return text[:1] == " " or holds_line_break(token) or not text[:1].isalnum()
