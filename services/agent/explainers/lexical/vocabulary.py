"""Which tokens of a vocabulary a matcher takes, without asking each of them.

`matches_locally` is the definition, one token at a time. A search asks for thousands of
matchers over tens of thousands of tokens, so equal spellings are looked up in tables and
only affixes go through the list; a test holds the two to each other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from saexplain.common.v1.pattern_pb2 import TokenClass, TokenMatcher
from services.common.pattern.tokens import (
    fold_case,
    in_local_class,
    text_of,
    without_leading_space,
)

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
_Spelling = tuple[bool, bool]
"""Whether case, and whether a leading space, is ignored."""


AFFIX_LENGTHS = (2, 3, 4, 5)
_MIN_AFFIX_TOKENS = 3


@dataclass(frozen=True)
class Affixes:
    """The beginnings, or the ends, of one length that several words share.

    Attributes:
        matchers: one per affix, in the order of their bytes.
        of_token: index into `matchers` of each token, their number where it has none of
            them; shape [tokens + 1], the last entry for no token.
    """

    matchers: tuple[TokenMatcher, ...]
    of_token: Ints


class Vocabulary:
    """Distinct tokens, sorted, and the matchers that take them.

    Args:
        tokens: distinct byte strings.
    """

    def __init__(self, tokens: Sequence[bytes]) -> None:
        self.tokens = tuple(tokens)
        self._spellings: dict[_Spelling, tuple[list[bytes], dict[bytes, list[int]]]] = {}
        self._classes: dict[TokenClass.ValueType, Ints] = {}
        self._affixed: dict[bytes, Ints] = {}
        self._traits: dict[Callable[[bytes], bool], Bools] = {}

    def __len__(self) -> int:
        return len(self.tokens)

    def ids(self, matcher: TokenMatcher) -> Ints:
        """Indices of the tokens that a matcher takes, ascending; its answer must depend on
        the bytes only."""
        kind = matcher.WhichOneof("kind")
        if kind == "token_class":
            return self._of_class(matcher.token_class)
        if kind == "literal":
            _, places = self._spelled(matcher)
            return np.array(places.get(self._normal(matcher, matcher.literal), ()), np.int64)
        key = matcher.SerializeToString(deterministic=True)
        if key not in self._affixed:
            self._affixed[key] = self._with_affix(matcher)
        return self._affixed[key]

    def mask(self, matcher: TokenMatcher) -> Bools:
        """The same as truth values with one more entry, for no token, False; shape
        [tokens + 1]."""
        taken = np.zeros(len(self.tokens) + 1, bool)
        taken[self.ids(matcher)] = True
        return taken

    def trait(self, has: Callable[[bytes], bool]) -> Bools:
        """Which tokens have a trait; shape [tokens + 1], the last entry False."""
        if has not in self._traits:
            self._traits[has] = np.array([*map(has, self.tokens), False])
        return self._traits[has]

    @cached_property
    def affixes(self) -> tuple[Affixes, ...]:
        """Those of ASCII words, by kind and length."""
        words = [w if w.isalnum() and text_of(w).isascii() else b"" for w in self._bare]
        return tuple(
            _affixes(words, kind, length)
            for kind in ("prefix", "suffix")
            for length in AFFIX_LENGTHS
        )

    @cached_property
    def _bare(self) -> list[bytes]:
        return [without_leading_space(token) for token in self.tokens]

    @cached_property
    def _bare_folded(self) -> list[bytes]:
        return [fold_case(token) for token in self._bare]

    def _with_affix(self, matcher: TokenMatcher) -> Ints:
        if matcher.WhichOneof("kind") == "prefix":
            # The leading space is off either way, so only one may be taken.
            forms = self._bare_folded if matcher.ignore_case else self._bare
            wanted = self._normal(matcher, matcher.prefix)
            return np.array([i for i, t in enumerate(forms) if t.startswith(wanted)], np.int64)
        forms, _ = self._spelled(matcher)
        wanted = self._normal(matcher, matcher.suffix)
        return np.array([i for i, t in enumerate(forms) if t.endswith(wanted)], np.int64)

    def _of_class(self, token_class: TokenClass.ValueType) -> Ints:
        if token_class not in self._classes:
            found = [i for i, t in enumerate(self.tokens) if in_local_class(t, token_class)]
            self._classes[token_class] = np.array(found, np.int64)
        return self._classes[token_class]

    def _spelled(self, matcher: TokenMatcher) -> tuple[list[bytes], dict[bytes, list[int]]]:
        """Every token as the matcher reads it, and where each reading stands."""
        key = (matcher.ignore_case, matcher.ignore_leading_space)
        if key not in self._spellings:
            forms = [self._normal(matcher, token) for token in self.tokens]
            places: dict[bytes, list[int]] = {}
            for i, form in enumerate(forms):
                places.setdefault(form, []).append(i)
            self._spellings[key] = forms, places
        return self._spellings[key]

    @staticmethod
    def _normal(matcher: TokenMatcher, token: bytes) -> bytes:
        if matcher.ignore_leading_space:
            token = without_leading_space(token)
        return fold_case(token) if matcher.ignore_case else token


def _affixes(words: Sequence[bytes], kind: str, length: int) -> Affixes:
    found: dict[bytes, list[int]] = defaultdict(list)
    for i, word in enumerate(words):
        if length < len(word):
            found[word[:length] if kind == "prefix" else word[-length:]].append(i)
    shared = sorted(affix for affix, tokens in found.items() if len(tokens) >= _MIN_AFFIX_TOKENS)
    of_token = np.full(len(words) + 1, len(shared))
    for number, affix in enumerate(shared):
        of_token[found[affix]] = number
    matchers = [
        TokenMatcher(prefix=affix) if kind == "prefix" else TokenMatcher(suffix=affix)
        for affix in shared
    ]
    return Affixes(tuple(matchers), of_token)
