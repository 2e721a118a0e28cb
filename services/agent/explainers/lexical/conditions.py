"""Which left conditions would split a matcher's rows into firing and silent ones.

Each row has a benefit: the nats saved if it were coded with the firing rows rather than
where it is now. Benefits add up, so the best set of tokens to ask for (or to rule out)
at a distance is read off their sums; the exact code length then decides.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from saexplain.common.v1.pattern_pb2 import (
    TOKEN_CLASS_ANY,
    LeftCondition,
    TokenClass,
    TokenMatcher,
)
from services.agent.explainers.lexical.occurrences import Floats, Ints, Occurrences
from services.common.pattern.tokens import LOCAL_CLASSES

DISTANCES = (1, 2, 4, 8)
MAX_TOKENS = 20
"""Alternatives of one condition."""

_CLASSES: tuple[TokenClass.ValueType, ...] = tuple(
    sorted(c for c in LOCAL_CLASSES if c != TOKEN_CLASS_ANY)
)


def propose(
    occurrences: Occurrences, rows: Ints, benefits: Floats, cost_per_token: float
) -> Iterator[LeftCondition]:
    """Conditions that gather the rows with positive benefit.

    Args:
        occurrences: the evidence.
        rows: the rows that the rule matches so far.
        benefits: nats saved per row, same length as `rows`.
        cost_per_token: nats that one more token in a condition costs.
    """
    missing = len(occurrences.vocabulary)
    # A token twice within the distance counts once.
    history = _without_repeats(occurrences.history[rows], missing)
    for distance in DISTANCES:
        for sign in (1.0, -1.0):
            chosen = _tokens(history[:, :distance], sign * benefits, cost_per_token, missing)
            if chosen:
                literals = [TokenMatcher(literal=occurrences.vocabulary[i]) for i in chosen]
                yield LeftCondition(max_distance=distance, any_of=literals, negated=sign < 0)
    for token_class in _CLASSES:
        for negated in (False, True):
            matcher = TokenMatcher(token_class=token_class)
            yield LeftCondition(max_distance=1, any_of=[matcher], negated=negated)


def _tokens(history: Ints, benefits: Floats, cost: float, missing: int) -> list[int]:
    """Greedily the tokens whose rows, not yet covered, sum to more than a token costs."""
    chosen: list[int] = []
    left = benefits.copy()
    sums = _sums(history, left, missing)
    while len(chosen) < MAX_TOKENS:
        best = int(sums.argmax())
        if sums[best] <= cost:
            return chosen
        chosen.append(best)
        covered = np.flatnonzero(history.ravel() == best) // history.shape[1]
        sums -= _sums(history[covered], left[covered], missing)
        sums[best] = 0
        left[covered] = 0
    return chosen


def _sums(history: Ints, benefits: Floats, missing: int) -> Floats:
    """Benefit of the rows that hold each token, shape [missing]."""
    repeated = np.repeat(benefits, history.shape[1])
    return np.bincount(history.ravel(), repeated, minlength=missing + 1)[:missing]


def _without_repeats(history: Ints, missing: int) -> Ints:
    distinct = history.copy()
    for column in range(1, history.shape[1]):
        repeated = (history[:, :column] == history[:, column, None]).any(axis=1)
        distinct[repeated, column] = missing
    return distinct
