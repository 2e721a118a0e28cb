"""Which matchers are worth trying: tokens that fired, their case and space families,
affixes that several of them share, and classes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from saexplain.common.v1.pattern_pb2 import TokenClass, TokenMatcher
from services.agent.explainers.lexical.coding import LEVEL_EDGES
from services.agent.explainers.lexical.occurrences import Occurrences
from services.common.pattern.tokens import fold_case, text_of, without_leading_space

MIN_FIRINGS = 2
"""Rows above silence that a token needs to be looked at."""
MAX_LITERALS = 400
_AFFIX_LENGTHS = (2, 3, 4, 5)
_MIN_AFFIX_TOKENS = 5


def firing_tokens(occurrences: Occurrences) -> list[int]:
    """Vocabulary indices of tokens that fired above silence in at least `MIN_FIRINGS`
    rows, by summed share, largest first."""
    above = occurrences.share >= LEVEL_EDGES[0]
    size = len(occurrences.vocabulary)
    counts = np.bincount(occurrences.token[above], minlength=size)
    masses = np.bincount(occurrences.token[above], weights=occurrences.share[above], minlength=size)
    ranked = np.lexsort((np.arange(size), -masses))
    return [int(i) for i in ranked if counts[i] >= MIN_FIRINGS][:MAX_LITERALS]


def matchers(occurrences: Occurrences) -> list[TokenMatcher]:
    """All candidates, in a fixed order."""
    tokens = [occurrences.vocabulary[i] for i in firing_tokens(occurrences)]
    return [
        *(TokenMatcher(literal=token) for token in tokens),
        *_families(tokens, occurrences.vocabulary),
        *_affixes(tokens),
        *(TokenMatcher(token_class=c) for c in sorted(TokenClass.values()) if c),
    ]


def _families(fired: list[bytes], vocabulary: tuple[bytes, ...]) -> Iterator[TokenMatcher]:
    """Tokens that occur in several spellings of case and leading space, all in one."""
    folded: dict[bytes, set[bytes]] = defaultdict(set)
    for token in vocabulary:
        folded[fold_case(without_leading_space(token))].add(token)
    seen = set()
    for token in fired:
        key = fold_case(without_leading_space(token))
        if key and key not in seen and len(folded[key]) > 1:
            seen.add(key)
            yield from _foldings(key, folded[key])


def _foldings(key: bytes, spellings: set[bytes]) -> Iterator[TokenMatcher]:
    cases = {without_leading_space(s) for s in spellings}
    spaces = {fold_case(s) for s in spellings}
    if len(spaces) > 1:
        for spelling in sorted(cases):
            yield TokenMatcher(literal=spelling, ignore_leading_space=True)
    if len(cases) > 1:
        for spelling in sorted(spaces):
            yield TokenMatcher(literal=spelling, ignore_case=True)
    if len(cases) > 1 and len(spaces) > 1:
        yield TokenMatcher(literal=key, ignore_case=True, ignore_leading_space=True)


def _affixes(fired: list[bytes]) -> Iterator[TokenMatcher]:
    """Beginnings and ends that at least five firing words share."""
    prefixes: dict[bytes, set[bytes]] = defaultdict(set)
    suffixes: dict[bytes, set[bytes]] = defaultdict(set)
    for token in fired:
        word = without_leading_space(token)
        if not text_of(word).isalnum() or not word.isascii():
            continue
        for length in _AFFIX_LENGTHS:
            if length < len(word):
                prefixes[word[:length]].add(word)
                suffixes[word[-length:]].add(word)
    for prefix in sorted(p for p, words in prefixes.items() if len(words) >= _MIN_AFFIX_TOKENS):
        yield TokenMatcher(prefix=prefix)
    for suffix in sorted(s for s, words in suffixes.items() if len(words) >= _MIN_AFFIX_TOKENS):
        yield TokenMatcher(suffix=suffix)
