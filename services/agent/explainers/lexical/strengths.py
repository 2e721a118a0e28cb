"""Strengths of a chosen rule set: fitted jointly, then put on the scale of the verdicts.

For a correlation the best strength of a rule is the weighted mean share at the tokens it
decides, shrunk towards silence where few were seen. A mean rarely reaches the share at
which a window counts as active, though, so all strengths are multiplied by one factor:
the one that puts the best F1 threshold on the EXPLAIN windows at that share.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from saexplain.common.v1.pattern_pb2 import PatternRule
from services.agent.explainers.lexical.occurrences import Bools, Floats, Occurrences
from services.agent.explainers.lexical.weights import ACTIVE_SHARE

SHRINKAGE = 0.5
"""Silent rows that every rule is taken to have seen, in units of an average firing row."""
MAX_STRENGTH = 2.0
_ITERATIONS = 6


def refit(
    occurrences: Occurrences, rules: Sequence[PatternRule], *, keep_all: bool = False
) -> list[PatternRule]:
    """Copies of the rules with strengths fitted jointly. Those that decide no row are left
    out, or with `keep_all` get strength 0."""
    if not rules:
        return []
    masks = np.stack([occurrences.rule_mask(rule) for rule in rules])
    strengths = np.array([rule.strength for rule in rules], np.float64)
    unit = _unit(occurrences)
    weighted = occurrences.weight * occurrences.share
    winner = _winner(masks, strengths)
    for _ in range(_ITERATIONS):
        sums = np.bincount(winner, weighted, minlength=len(rules) + 1)[:-1]
        totals = np.bincount(winner, occurrences.weight, minlength=len(rules) + 1)[:-1]
        strengths = sums / (totals + SHRINKAGE * unit)
        winner = _winner(masks, strengths)
    support = np.bincount(winner, minlength=len(rules) + 1)[:-1]
    return [
        _with_strength(rule, float(strength), int(seen))
        for rule, strength, seen in zip(rules, strengths, support, strict=True)
        if keep_all or (seen and strength > 0)
    ]


def calibration(occurrences: Occurrences, predicted: Floats) -> float:
    """The factor nearest 1 that lets windows be told apart best at `ACTIVE_SHARE`; 1 where
    nothing tells."""
    peaks = occurrences.peaks(predicted)
    actual = occurrences.share[occurrences.peaks(occurrences.share)]
    # A window stands for as many as the token by which it is called: what near misses teach
    # of a token must not be outweighed by windows drawn for their other tokens.
    weights = occurrences.weight[peaks]
    low, high = _best_thresholds(predicted[peaks], actual >= ACTIVE_SHARE, weights)
    # Predictions are stored in single precision: half-way is safe from rounding.
    return 1.0 if low < ACTIVE_SHARE < high or high <= 0 else 2 * ACTIVE_SHARE / (low + high)


def scaled(rules: Sequence[PatternRule], factor: float) -> list[PatternRule]:
    """Copies with all strengths multiplied, at most `MAX_STRENGTH`."""
    return [_with_strength(rule, rule.strength * factor, rule.support) for rule in rules]


def _winner(masks: Bools, strengths: Floats) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The rule that decides each row; the number of rules where none matches."""
    order = np.argsort(strengths, kind="stable")
    winner = np.full(masks.shape[1], len(strengths), np.int64)
    for rule in order:
        winner[masks[rule]] = rule
    return winner


def _unit(occurrences: Occurrences) -> float:
    firing = occurrences.weight[occurrences.share > 0]
    return float(firing @ firing / firing.sum()) if firing.sum() > 0 else 1.0


def _best_thresholds(scores: Floats, actual: Bools, weights: Floats) -> tuple[float, float]:
    """The interval of thresholds with the best F1, open below; (0, 0) where none is above 0."""
    values = np.unique(np.append(scores, 0.0))
    thresholds = values[1:]
    if len(thresholds) == 0:
        return 0.0, 0.0
    called = scores >= thresholds[:, None]
    hits = called @ (weights * actual)
    f1 = 2 * hits / np.maximum(called @ weights + weights @ actual, 1e-12)
    best = int(f1.argmax())
    return (float(values[best]), float(thresholds[best])) if f1[best] > 0 else (0.0, 0.0)


def _with_strength(rule: PatternRule, strength: float, support: int) -> PatternRule:
    copy = PatternRule()
    copy.CopyFrom(rule)
    copy.strength, copy.support = min(strength, MAX_STRENGTH), support
    return copy
