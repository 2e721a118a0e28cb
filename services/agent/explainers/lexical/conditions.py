"""Which left conditions would split a matcher's rows into firing and silent ones.

Each row has a benefit: the nats saved if it were coded with the firing rows rather than
where it is now. Benefits add up, so the best set of tokens to ask for (or to rule out)
at a distance is read off their sums; the exact code length then decides.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from saexplain.common.v1.pattern_pb2 import LeftCondition, TokenMatcher
from services.agent.explainers.lexical.occurrences import (
    NEAR_CLASSES,
    Floats,
    Ints,
    Occurrences,
)

DISTANCES = (1, 2, 4, 8)
_BROAD = 4
"""Classes and affixes that are passed on, those with the most benefit."""
MAX_TOKENS = 20
"""Alternatives of one condition."""


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
    history = occurrences.distinct_history[rows]
    for distance in DISTANCES:
        near = np.ascontiguousarray(history[:, :distance]).ravel()
        for sign in (1.0, -1.0):
            chosen = _tokens(near, sign * benefits, cost_per_token, missing)
            if chosen:
                literals = [TokenMatcher(literal=occurrences.vocabulary[i]) for i in chosen]
                yield LeftCondition(max_distance=distance, any_of=literals, negated=sign < 0)
    ranked = sorted(_broad(occurrences, rows, benefits), key=lambda found: -found[0])
    yield from (condition for _, condition in ranked[:_BROAD])


def _broad(
    occurrences: Occurrences, rows: Ints, benefits: Floats
) -> Iterator[tuple[float, LeftCondition]]:
    """Conditions on a class, or on the best affix of each kind and length, each with the
    benefit of the rows that it keeps."""
    total = float(benefits.sum())
    kept = benefits @ occurrences.near_classes[rows]
    for i, (token_class, distance) in enumerate(NEAR_CLASSES):
        matcher = TokenMatcher(token_class=token_class)
        yield float(kept[i]), _condition(matcher, distance)
        yield total - float(kept[i]), _condition(matcher, distance, negated=True)
    for affixes, near_ids in occurrences.near_affixes:
        if not affixes.matchers:
            continue
        sums = np.zeros(len(affixes.matchers) + 1)
        for distance, column in enumerate(near_ids[rows].T, 1):
            sums += np.bincount(column, benefits, minlength=len(sums))
            best = int(sums[:-1].argmax())
            yield float(sums[best]), _condition(affixes.matchers[best], distance)


def _condition(matcher: TokenMatcher, distance: int, *, negated: bool = False) -> LeftCondition:
    return LeftCondition(max_distance=distance, any_of=[matcher], negated=negated)


def _tokens(near: Ints, benefits: Floats, cost: float, missing: int) -> list[int]:
    """Greedily the tokens whose rows, not yet covered, sum to more than a token costs.

    Args:
        near: tokens to the left of each row, `missing` for none, row after row.
        benefits: one per row.
        cost: what one token must save.
        missing: the number of tokens.
    """
    width = len(near) // len(benefits)
    chosen: list[int] = []
    left = np.repeat(benefits, width)
    sums = np.bincount(near, left, minlength=missing + 1)
    sums[missing] = 0
    while len(chosen) < MAX_TOKENS:
        best = int(sums.argmax())
        if sums[best] <= cost:
            return chosen
        chosen.append(best)
        rows = np.flatnonzero(near == best) // width
        covered = (rows[:, None] * width + np.arange(width)).ravel()
        sums -= np.bincount(near[covered], left[covered], minlength=missing + 1)
        sums[[best, missing]] = 0
        left[covered] = 0
    return chosen
