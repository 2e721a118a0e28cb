"""Predicted activation at every token of a stretch of text.

The share predicted at a token is the largest strength among the rules that match there
(pattern.proto). Matching a token against a pattern's matchers depends, but for three
classes, on its bytes only, so a compiled pattern remembers one row of answers per token
it has seen, and a window costs a few array operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import cast

import numpy as np
from numpy.typing import NDArray

from saexplain.common.v1.pattern_pb2 import (
    TOKEN_CLASS_CONTEXT_START,
    TOKEN_CLASS_LINE_START,
    TOKEN_CLASS_WORD_CONTINUATION,
    LeftCondition,
    Pattern,
    PatternRule,
    TokenClass,
    TokenMatcher,
)
from saexplain.common.v1.text_pb2 import TokenSpan
from saexplain.common.v1.window_pb2 import Window
from services.common.pattern.tokens import (
    LOCAL_CLASSES,
    ends_with_letter,
    holds_line_break,
    is_bare_word,
    local_test,
)
from services.common.pattern.validate import validate

CONTEXT_START_TOKENS = 4
"""A token is at the start of its context if fewer than this many stand before it."""

_MAX_REMEMBERED_TOKENS = 1 << 17
_LINE_BREAK, _ENDS_WITH_LETTER, _BARE_WORD = 0, 1, 2
_TRAITS = (holds_line_break, ends_with_letter, is_bare_word)

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]


class CompiledPattern:
    """A pattern ready to predict. Not to be shared between threads."""

    def __init__(self, pattern: Pattern) -> None:
        """Compiles a pattern that `validate` accepts."""
        validate(pattern)
        self._matchers: list[TokenMatcher] = []
        self._columns: dict[bytes, int] = {}
        self._parts = [[self._compile_rule(rule) for rule in part.rules] for part in pattern.parts]
        by_place = [_depends_on_place(m) for m in self._matchers]
        self._by_place = [
            (column, matcher.token_class)
            for column, matcher in enumerate(self._matchers)
            if by_place[column]
        ]
        self._by_bytes = [
            (len(_TRAITS) + column, local_test(matcher))
            for column, matcher in enumerate(self._matchers)
            if not by_place[column]
        ]
        self._forget()

    def predict(
        self,
        tokens: TokenSpan,
        left_context: TokenSpan | None = None,
        context_position: int | None = None,
    ) -> Floats:
        """Predicted shares of the reference maximum, float32, shape [number of `tokens`],
        in [0, 2]; arguments as of `predict_parts`."""
        parts = self.predict_parts(tokens, left_context, context_position)
        return cast(Floats, parts.max(axis=0))

    def predict_parts(
        self,
        tokens: TokenSpan,
        left_context: TokenSpan | None = None,
        context_position: int | None = None,
    ) -> Floats:
        """What each part predicts on its own.

        Args:
            tokens: where to predict.
            left_context: what stands before them, nearest last; seen, not predicted.
            context_position: tokens before the first of `tokens` in its context; the
                length of `left_context` where it is not given.

        Returns:
            float32, shape [number of parts, number of tokens].

        Raises:
            ValueError: `context_position` is less than the length of `left_context`.
        """
        left = tuple(left_context.token_bytes) if left_context is not None else ()
        position = len(left) if context_position is None else context_position
        if position < len(left):
            raise ValueError("left_context is longer than context_position allows")
        count = len(tokens.token_bytes)
        shares = np.zeros((len(self._parts), count), np.float32)
        if count == 0:
            return shares
        hits = self._hits((*left, *tokens.token_bytes), position - len(left))
        present: Bools = np.any(hits[len(left) :], axis=0)
        for row, rules in zip(shares, self._parts, strict=True):
            for rule in rules:
                if present[rule.token]:
                    np.maximum(row, rule.predict(hits, len(left)), out=row)
        return shares

    def _compile_rule(self, rule: PatternRule) -> _Rule:
        left = [_Left(c, [self._column(m) for m in c.any_of]) for c in rule.left]
        return _Rule(self._column(rule.token), left, rule.strength)

    def _column(self, matcher: TokenMatcher) -> int:
        key = matcher.SerializeToString(deterministic=True)
        if key not in self._columns:
            self._columns[key] = len(self._matchers)
            self._matchers.append(matcher)
        return self._columns[key]

    def _hits(self, tokens: Sequence[bytes], first_position: int) -> Bools:
        """Which matcher takes which token, shape [tokens, matchers]."""
        if len(self._places) > _MAX_REMEMBERED_TOKENS:
            self._forget()
        places = [self._place(token) for token in tokens]
        rows = self._table[places]
        traits, hits = rows[:, : len(_TRAITS)], rows[:, len(_TRAITS) :]
        for column, token_class in self._by_place:
            hits[:, column] = _by_place(token_class, traits, first_position)
        return hits

    def _forget(self) -> None:
        """Empties the table of tokens: what each is by its bytes, one row per token."""
        self._places: dict[bytes, int] = {}
        self._table = np.zeros((64, len(_TRAITS) + len(self._matchers)), bool)

    def _place(self, token: bytes) -> int:
        """The token's row in the table."""
        place = self._places.get(token)
        if place is not None:
            return place
        place = len(self._places)
        if place == len(self._table):
            self._table = np.concatenate([self._table, np.zeros_like(self._table)])
        row = self._table[place]
        row[: len(_TRAITS)] = [trait(token) for trait in _TRAITS]
        row[[column for column, takes in self._by_bytes if takes(token)]] = True
        self._places[token] = place
        return place


class _Left:
    """A left condition over columns of the hit table."""

    def __init__(self, condition: LeftCondition, columns: list[int]) -> None:
        self._distance = condition.max_distance
        self._negated = condition.negated
        self._columns = columns

    def holds(self, hits: Bools, begin: int) -> Bools:
        """Where it holds, shape [tokens from `begin`]."""
        matched = hits[:, self._columns].any(axis=1)
        before = np.concatenate([[0], np.cumsum(matched)])
        places = np.arange(begin, len(hits))
        found = before[places] > before[np.maximum(places - self._distance, 0)]
        agreed: Bools = found != self._negated
        return agreed


class _Rule:
    """A rule over columns of the hit table."""

    def __init__(self, token: int, left: list[_Left], strength: float) -> None:
        self.token = token
        self._left = left
        self._strength = np.float32(strength)

    def predict(self, hits: Bools, begin: int) -> Floats:
        """Its strength where it matches, else 0; shape [tokens from `begin`]."""
        matched = hits[begin:, self.token]
        for condition in self._left:
            matched = matched & condition.holds(hits, begin)
        return np.where(matched, self._strength, np.float32(0))


def _depends_on_place(matcher: TokenMatcher) -> bool:
    return matcher.WhichOneof("kind") == "token_class" and matcher.token_class not in LOCAL_CLASSES


def _by_place(token_class: TokenClass.ValueType, traits: Bools, first_position: int) -> Bools:
    """Membership in a class that depends on the token before or on the position. What
    stands before the first token given is unknown unless it opens its context."""
    here = np.zeros(len(traits), bool)
    if token_class == TOKEN_CLASS_CONTEXT_START:
        here[: max(CONTEXT_START_TOKENS - first_position, 0)] = True
        return here
    if token_class == TOKEN_CLASS_LINE_START:
        here[0] = first_position == 0
        here[1:] = traits[:-1, _LINE_BREAK]
        return here
    if token_class == TOKEN_CLASS_WORD_CONTINUATION:
        here[1:] = traits[:-1, _ENDS_WITH_LETTER] & traits[1:, _BARE_WORD]
        return here
    raise ValueError(f"no evaluator for token class {token_class}")


def compile_pattern(pattern: Pattern) -> CompiledPattern:
    """A compiled pattern, remembered by its content.

    Raises:
        InvalidArgument: as `validate`.
    """
    return _compile(pattern.SerializeToString(deterministic=True))


@lru_cache(maxsize=64)
def _compile(serialized: bytes) -> CompiledPattern:
    return CompiledPattern(Pattern.FromString(serialized))


def predict(
    pattern: Pattern,
    tokens: TokenSpan,
    left_context: TokenSpan | None = None,
    context_position: int | None = None,
) -> Floats:
    """`CompiledPattern.predict` of a pattern, compiled once per content."""
    return compile_pattern(pattern).predict(tokens, left_context, context_position)


def predict_window(pattern: Pattern, window: Window) -> Floats:
    """Predicted shares at the window's own tokens, float32, same length."""
    return predict(pattern, window.tokens, window.left_context, window.context_position)
