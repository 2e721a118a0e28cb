"""FADE (arXiv 2502.16994): clarity, responsiveness, purity, faithfulness.

A Gini of the ROC curve is folded at one half, so that a feature that is suppressed by a
concept scores like one that is excited; the ranking behind average precision is turned
round with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from services.scorer.statistics.auc import auroc
from services.scorer.statistics.classification import average_precision
from services.scorer.statistics.estimate import Bools, Estimate, Floats, defined, undefined

CLEARLY, NOT = 2, 0
"""Ratings that make the two classes; 1 and whatever else came back are left out."""

Ratings = Mapping[str, int]
"""Rating by the number of the sample; samples without one failed."""


def fade_separation(activations: Floats, concept: Bools) -> tuple[Estimate, Estimate]:
    """|2 AUROC - 1| of signed activations and the average precision of the same ranking,
    negated where 2 AUROC - 1 < 0; shape [n] each. Undefined where a class is missing."""
    area = auroc(activations, concept)
    if area.value is None:
        return area, undefined(area.reason)
    signed = 2 * area.value - 1
    ranking = -activations if signed < 0 else activations
    return defined(abs(signed)), average_precision(ranking, concept, np.ones_like(activations))


def fade_clarity(natural: Floats, synthetic: Floats) -> tuple[Estimate, Estimate]:
    """Clarity and average precision of synthetic samples of the concept against all natural
    ones, those that express the concept too.

    Without one of the two there is no clarity; average precision is then 0 for no
    synthetic samples and 1 for no natural ones.
    """
    concept = np.repeat([False, True], [natural.size, synthetic.size])
    clarity, precision = fade_separation(np.concatenate([natural, synthetic]), concept)
    if clarity.value is None:
        precision = defined(1.0 if synthetic.size else 0.0)
    return clarity, precision


def fade_responsiveness_purity(natural: Floats, ratings: Ratings) -> tuple[Estimate, Estimate]:
    """Responsiveness and purity of natural samples [n] by their ratings."""
    kept = [int(i) for i, rating in ratings.items() if rating in (CLEARLY, NOT)]
    concept = np.array([ratings[str(i)] == CLEARLY for i in kept], np.bool_)
    return fade_separation(natural[np.array(kept, np.int64)], concept)


def fade_fractions(by_factor: Mapping[float, Ratings]) -> dict[float, Estimate]:
    """Share of rated samples that are rated 2, by factor."""
    return {
        factor: defined(sum(r == CLEARLY for r in ratings.values()) / len(ratings))
        if ratings
        else undefined("no sample of the factor has a rating")
        for factor, ratings in by_factor.items()
    }


def fade_faithfulness(by_factor: Mapping[float, Ratings]) -> tuple[Estimate, float | None]:
    """max(max_f c_f - c_0, 0) / (1 - c_0), and the largest factor where that is above 0
    (not the one with the largest share).

    0 where no sample of any factor is rated 2. Undefined where c_0 is 1 or the baseline
    has no rating.

    Raises:
        ValueError: there is no factor 0.
    """
    if 0 not in by_factor:
        raise ValueError("no baseline of factor 0")
    if not any(r == CLEARLY for ratings in by_factor.values() for r in ratings.values()):
        return defined(0.0), None
    fractions = fade_fractions(by_factor)
    baseline = fractions[0].value
    if baseline is None:
        return undefined(fractions[0].reason), None
    if baseline == 1:
        return undefined("every unmodified sample expresses the concept"), None
    best = max(c.value for c in fractions.values() if c.value is not None)
    value = max(best - baseline, 0.0) / (1 - baseline)
    return defined(value), max(by_factor) if value > 0 else None


def fade_signed_peak(activations: Sequence[float]) -> float:
    """A text's activation: the signed value at the token with the largest magnitude."""
    return max(activations, key=abs)
