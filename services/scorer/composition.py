"""Writes texts from a pattern: corpus sentences in which the feature is silent, with the
pattern's tokens put in (positives) or nearly put in (boundaries).

Carriers are EXPLAIN NON_ACTIVATING windows, so that what fires is due to what was put in.
Concrete tokens for classes and affixes, and near variants, come from the vocabulary of the
EXPLAIN windows, whatever the feature does there. Boundaries take, in turn, a rule's token
with its left condition broken, or a near variant of the token under the rule's condition.

A text is kept if the pattern, evaluated on the tokens it was composed of, says what is
wanted. The service has no tokenizer: whether the text's own tokens say the same is checked
when it was encoded, see `texts.verified_by_pattern`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest

import numpy as np

from saexplain.common.v1.pattern_pb2 import (
    TOKEN_CLASS_ANY,
    TOKEN_CLASS_CONTEXT_START,
    TOKEN_CLASS_LINE_START,
    LeftCondition,
    Pattern,
    PatternRule,
    TokenMatcher,
)
from saexplain.common.v1.text_pb2 import TokenSpan
from services.common.pattern import CompiledPattern, compile_pattern
from services.scorer.baselines import ACTIVE_SHARE
from services.scorer.vocabulary import Tokens, Vocabulary

CARRIER_TOKENS = 14
"""Tokens of a written text: about the 5 to 15 words of published probes."""

_ATTEMPTS = 8
"""Carriers tried for every text that is wanted."""

_FAR = 6
"""Left conditions are met at most this far to the left."""


def claim_threshold(pattern: Pattern) -> float:
    """The predicted share at which the pattern claims a text: one half, or its strongest
    rule where it promises less."""
    strengths = [rule.strength for part in pattern.parts for rule in part.rules]
    return min(ACTIVE_SHARE, max(strengths, default=ACTIVE_SHARE))


class Composer:
    """Writes texts for one pattern.

    Args:
        carriers: tokens of silent windows.
        vocabulary: of the EXPLAIN windows.
        seed: of the choice of carriers and places.
    """

    def __init__(self, carriers: Sequence[Tokens], vocabulary: Vocabulary, seed: int) -> None:
        self._carriers = [c for c in carriers if len(c) >= 4]
        self._vocabulary = vocabulary
        self._seed = seed % 2**64

    def positives(self, pattern: Pattern, count: int) -> list[str]:
        """At most `count` different texts that the pattern claims, its parts in turn."""
        compiled, threshold = compile_pattern(pattern), claim_threshold(pattern)
        rules = [r for r in _in_turn(pattern) if r.strength >= threshold]
        return self._write(
            rules, count, self._positive, lambda t: _largest(compiled, t) >= threshold
        )

    def boundaries(self, pattern: Pattern, count: int) -> list[str]:
        """At most `count` different texts that the pattern just does not claim."""
        compiled, threshold = compile_pattern(pattern), claim_threshold(pattern)
        rules = [r for r in _in_turn(pattern) if r.strength >= threshold]
        return self._write(
            rules, count, self._boundary, lambda t: _largest(compiled, t) < threshold
        )

    def _write(
        self,
        rules: Sequence[PatternRule],
        count: int,
        compose: Callable[[PatternRule, list[bytes], int, np.random.Generator], list[bytes] | None],
        accept: Callable[[Tokens], bool],
    ) -> list[str]:
        if not rules or not self._carriers:
            return []
        rng = np.random.default_rng(self._seed)
        order = rng.permutation(len(self._carriers))
        texts: list[str] = []
        for attempt in range(count * _ATTEMPTS):
            if len(texts) == count:
                break
            # A rule keeps its turn until it has its text, unless it cannot be written.
            rule = rules[(len(texts) + attempt // _ATTEMPTS) % len(rules)]
            carrier = self._cut(self._carriers[order[attempt % len(order)]], rng)
            tokens = compose(rule, carrier, attempt, rng)
            text = None if tokens is None else _decoded(tokens)
            if tokens and text and text not in texts and accept(tokens):
                texts.append(text)
        return texts

    def _cut(self, carrier: Tokens, rng: np.random.Generator) -> list[bytes]:
        """A stretch that begins with a word where the carrier has one to begin with."""
        last = max(0, len(carrier) - CARRIER_TOKENS)
        starts = [i for i in range(last + 1) if carrier[i][:1] == b" "] or [0]
        start = starts[int(rng.integers(len(starts)))]
        return list(carrier[start : start + CARRIER_TOKENS])

    def _positive(
        self, rule: PatternRule, carrier: list[bytes], turn: int, rng: np.random.Generator
    ) -> list[bytes] | None:
        candidates = self._vocabulary.matching(rule.token)
        token = candidates[turn % len(candidates)] if candidates else None
        return self._place(rule.token, token, rule.left, carrier, rng)

    def _boundary(
        self, rule: PatternRule, carrier: list[bytes], turn: int, rng: np.random.Generator
    ) -> list[bytes] | None:
        if rule.left and turn % 2 == 0:
            candidates = self._vocabulary.matching(rule.token)
            token = candidates[turn % len(candidates)] if candidates else None
            broken = [_broken(c) for c in rule.left]
            return self._place(rule.token, token, broken, carrier, rng)
        if rule.token.token_class == TOKEN_CLASS_LINE_START:
            return carrier
        variants = self._vocabulary.near(rule.token)
        if not variants:
            return None
        token = variants[turn // (2 if rule.left else 1) % len(variants)]
        return self._place(TokenMatcher(literal=token), token, rule.left, carrier, rng)

    def _place(
        self,
        matcher: TokenMatcher,
        token: bytes | None,
        left: Iterable[LeftCondition],
        carrier: list[bytes],
        rng: np.random.Generator,
    ) -> list[bytes] | None:
        """The carrier with the token at a random place of its second half and the left
        conditions met; None where they cannot be."""
        if matcher.token_class == TOKEN_CLASS_ANY and not list(left):
            return carrier
        tokens = list(carrier)
        first = 0 if matcher.token_class == TOKEN_CLASS_CONTEXT_START else len(tokens) // 2
        place = first + int(rng.integers(max(1, min(4, len(tokens) - first))))
        if matcher.token_class == TOKEN_CLASS_LINE_START:
            tokens[place - 1] = b"\n"
        taken = {place - 1} if matcher.token_class == TOKEN_CLASS_LINE_START else set()
        for condition in left:
            if not condition.negated and not self._meet(condition, tokens, place, taken, rng):
                return None
        if token is not None:
            tokens[place : place + 1] = self._vocabulary.spelled(token)
        return tokens

    def _meet(
        self,
        condition: LeftCondition,
        tokens: list[bytes],
        place: int,
        taken: set[int],
        rng: np.random.Generator,
    ) -> bool:
        reach = min(condition.max_distance, _FAR, place)
        free = [place - d for d in range(1, reach + 1) if place - d not in taken]
        options = [t for m in condition.any_of for t in self._vocabulary.matching(m)[:3]]
        if not free or not options:
            return False
        spot = free[int(rng.integers(len(free)))]
        taken.add(spot)
        tokens[spot] = options[int(rng.integers(len(options)))]
        return True


def _broken(condition: LeftCondition) -> LeftCondition:
    """A condition whose fulfilment breaks the given one."""
    broken = LeftCondition()
    broken.CopyFrom(condition)
    broken.negated = not condition.negated
    return broken


def _in_turn(pattern: Pattern) -> list[PatternRule]:
    """The rules, one of each part in turn, the strongest of a part first."""
    ranked = [sorted(part.rules, key=lambda r: -r.strength) for part in pattern.parts]
    return [rule for turn in zip_longest(*ranked) for rule in turn if rule is not None]


def _largest(pattern: CompiledPattern, tokens: Tokens) -> float:
    span = TokenSpan(token_ids=[0] * len(tokens), token_bytes=tokens)
    return float(pattern.predict(span).max())


def _decoded(tokens: Tokens) -> str | None:
    """The text, or None where the tokens cut a character in two."""
    try:
        return b"".join(tokens).decode()
    except UnicodeDecodeError:
        return None
