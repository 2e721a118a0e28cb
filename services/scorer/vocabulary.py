"""The tokens that occur in the EXPLAIN windows: what a composer may put into texts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from functools import cache

from saexplain.common.v1.pattern_pb2 import (
    TOKEN_CLASS_ANY,
    TOKEN_CLASS_CONTEXT_START,
    TOKEN_CLASS_DIGITS,
    TOKEN_CLASS_LINE_START,
    TOKEN_CLASS_WORD_CONTINUATION,
    TokenMatcher,
)
from services.common.pattern.tokens import local_test

Tokens = Sequence[bytes]

_MAX_CANDIDATES = 20
_ANYTHING = (TOKEN_CLASS_ANY, TOKEN_CLASS_LINE_START, TOKEN_CLASS_CONTEXT_START)
"""Classes that hold of a place, whatever token stands there."""

_NUMBER_WORDS = (b" seven", b" twenty", b" three", b" hundred", b" first", b" dozen")

_SIMILAR = 0.55
"""Ratio of `difflib` from which two words count as near."""


class Vocabulary:
    """Tokens by frequency, and how each is spelled in running text.

    Args:
        windows: tokens of every EXPLAIN window.
    """

    def __init__(self, windows: Iterable[Tokens]) -> None:
        counts: Counter[bytes] = Counter()
        self._spelling: dict[bytes, Tokens] = {}
        for tokens in windows:
            counts.update(tokens)
            for place, token in enumerate(tokens):
                if token not in self._spelling and (word := _word_up_to(tokens, place)):
                    self._spelling[token] = word
        # Ties by bytes: the order must not depend on the order of the windows.
        self._tokens = sorted(counts, key=lambda t: (-counts[t], t))
        self._words = [(t.strip().lower(), t) for t in self._tokens]
        self._kinds: defaultdict[str, list[bytes]] = defaultdict(list)
        for token in self._tokens:
            self._kinds[_kind(token)].append(token)
        self._matching = cache(self._find_matching)
        self._near = cache(self._find_near)

    def spelled(self, token: bytes) -> Tokens:
        """The token with what stands before it in its word: a piece of a word put behind a
        space would be cut into other tokens."""
        return self._spelling.get(token, [token])

    def matching(self, matcher: TokenMatcher) -> Tokens:
        """Tokens that a matcher takes, the most frequent first, at most 20; a literal that does
        not occur is its own. Empty for classes that any token can belong to by its place."""
        return self._matching(matcher.SerializeToString(deterministic=True))

    def near(self, matcher: TokenMatcher) -> Tokens:
        """Tokens that a matcher does not take and that resemble one it takes: other case or
        spacing first, then similar spelling, then the same kind of token."""
        return self._near(matcher.SerializeToString(deterministic=True))

    def _find_matching(self, serialized: bytes) -> Tokens:
        matcher = TokenMatcher.FromString(serialized)
        if matcher.token_class in _ANYTHING:
            return []
        if matcher.token_class == TOKEN_CLASS_WORD_CONTINUATION:
            pieces = [t for t in self._tokens if len(self.spelled(t)) > 1]
            return pieces[:_MAX_CANDIDATES]
        # A spelling that occurs is one token; the bare literal need not be.
        return self._taken(matcher)[:_MAX_CANDIDATES] or _natural(matcher)

    def _taken(self, matcher: TokenMatcher) -> list[bytes]:
        return list(filter(local_test(matcher), self._tokens))

    def _find_near(self, serialized: bytes) -> Tokens:
        matcher = TokenMatcher.FromString(serialized)
        if matcher.token_class in _ANYTHING:
            return []
        words = [t for t in self._tokens if t[:1] == b" " and t[1:].isalpha()]
        if matcher.token_class == TOKEN_CLASS_WORD_CONTINUATION:
            return words[:_MAX_CANDIDATES]
        taken = set(self._taken(matcher)) | set(_natural(matcher))
        models = self._matching(serialized)[:3]
        found: dict[bytes, None] = {}
        for token in models:
            found |= dict.fromkeys(_respelled(token))
        for token in models:
            found |= dict.fromkeys(self._similar(token))
        for token in models[:1]:
            found |= dict.fromkeys(self._kinds.get(_kind(token), ()))
        near = [t for t in found if t not in taken]
        if matcher.token_class == TOKEN_CLASS_DIGITS:
            near = [*_NUMBER_WORDS, *near]
        # A class may hold its whole kind; a common word in its place is the nearest miss.
        return (near or [t for t in words if t not in taken])[:_MAX_CANDIDATES]

    def _similar(self, token: bytes) -> list[bytes]:
        word = token.strip().lower()
        ranked = []
        begin, end = word[:2], word[-3:]
        for text, other in self._words if len(word) >= 2 else ():
            # Comparing is slow: only words that share their beginning or end are compared.
            if not (text[:2] == begin or text[-3:] == end):
                continue
            ratio = SequenceMatcher(None, word, text, autojunk=False).ratio()
            if _SIMILAR <= ratio < 1:
                ranked.append((-ratio, other))
        return [other for _, other in sorted(ranked)[:5]]


def _natural(matcher: TokenMatcher) -> list[bytes]:
    """A literal as it is most natural in a sentence; nothing for other matchers."""
    if matcher.WhichOneof("kind") != "literal":
        return []
    spaced = matcher.ignore_leading_space and matcher.literal[:1].isalpha()
    return [b" " + matcher.literal] if spaced else [matcher.literal]


def _respelled(token: bytes) -> list[bytes]:
    """The token in other cases and with the other spacing."""
    if token[:1] != b" " and token[:1].isalpha():
        # Behind a word another case would melt into it; behind a space it is a token.
        return [b" " + token]
    space, word = (b" ", token[1:]) if token[:1] == b" " else (b"", token)
    return [space + c for c in (word.lower(), word.capitalize(), word.upper()) if c != word]


def _kind(token: bytes) -> str:
    text = token.strip()
    if not text:
        return "space"
    if text.isdigit():
        return "digits"
    return "word" if text.isalpha() else "other"


def _word_up_to(tokens: Tokens, place: int) -> list[bytes]:
    """The tokens from the beginning of the word to `place`; empty where it lies outside."""
    if not tokens[place][:1].isalnum():
        return [tokens[place]]
    for start in range(place - 1, max(-1, place - 5), -1):
        if tokens[start][:1] == b" " and tokens[start][1:2].isalpha():
            return list(tokens[start : place + 1])
        if not tokens[start][:1].isalnum():
            return list(tokens[start + 1 : place + 1])
    return []
