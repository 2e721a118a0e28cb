"""Description length: what a rule must pay for itself.

Activations are coded in four levels. Rows under the same rule share an adaptive code (a
Dirichlet-multinomial with Jeffreys' prior), rows under none share the background's. A
rule is worth its cost if coding its rows apart saves more nats than naming it costs.
Adaptive codes make a rule seen once or twice pay for its own uncertainty, which is what
holds against overfitting.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from saexplain.common.v1.pattern_pb2 import PatternRule, TokenMatcher

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEVEL_EDGES = np.array([0.1, 0.25, 0.5])
"""Shares of the reference maximum at which the next level begins; below the first is
silence (method, section 1)."""
LEVELS = len(LEVEL_EDGES) + 1
_PRIOR = 0.5


def levels_of(shares: Floats) -> Ints:
    """The level of each share, same shape."""
    return np.asarray(np.searchsorted(LEVEL_EDGES, shares, side="right"))


def counts_of(levels: Ints, weights: Floats) -> Floats:
    """Weighted count of each level, shape [LEVELS]."""
    return np.bincount(levels, weights=weights, minlength=LEVELS).astype(np.float64)


def code_length(counts: Floats) -> float:
    """Nats to code rows with these counts of levels one after another, each with what
    was learned from those before (Dirichlet-multinomial); counts may be fractions."""
    counts = np.maximum(counts, 0)
    total = counts.sum(axis=-1)
    normal = gammaln(_PRIOR * LEVELS + total) - gammaln(_PRIOR * LEVELS)
    return float(normal - (gammaln(_PRIOR + counts) - gammaln(_PRIOR)).sum(axis=-1))


def log_probabilities(counts: Floats) -> Floats:
    """What the adaptive code has learned: ln of the next row's level, shape [LEVELS]."""
    smoothed = np.maximum(counts, 0) + _PRIOR
    return np.asarray(np.log(smoothed / smoothed.sum()))


@dataclass(frozen=True)
class RuleCosts:
    """Nats to name a rule, given which tokens fired and what stood left of them.

    Attributes:
        literals: tokens that fired, from which a rule's literal is chosen.
        contexts: distinct tokens to the left of firing rows, from which the tokens of a
            condition are chosen.
        affixes: prefixes and suffixes that are candidates.
    """

    literals: int
    contexts: int
    affixes: int

    # Kind of matcher; literals, by far the most common, are named for free.
    _KIND = math.log(8)
    _CLASS = math.log(10)
    # Distance, sign and kind of a condition.
    _CONDITION = math.log(4 * 2 * 2)

    def matcher(self, matcher: TokenMatcher) -> float:
        """Nats to name the matcher of a rule's token."""
        return self._named(matcher, self.literals, self.affixes)

    @property
    def alternative(self) -> float:
        """Nats to name one more token of a condition."""
        return math.log(max(self.contexts, 2))

    def rule(self, rule: PatternRule) -> float:
        """Nats to name a rule with its conditions."""
        conditions = sum(
            self._CONDITION
            + sum(self._named(m, self.contexts, self.contexts) for m in condition.any_of)
            for condition in rule.left
        )
        return self.matcher(rule.token) + conditions

    def _named(self, matcher: TokenMatcher, literals: int, affixes: int) -> float:
        kind = matcher.WhichOneof("kind")
        if kind == "literal":
            return math.log(max(literals, 2))
        return self._KIND + (self._CLASS if kind == "token_class" else math.log(affixes + 2))
