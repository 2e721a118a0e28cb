"""How well an activation tells samples of a concept from others: Gini and average precision,
weighted, as they are and folded as FADE (arXiv 2502.16994) has them.

Folded means that a feature that the concept suppresses scores like one that it excites. On
unit weights the folded numbers are those of `published.fade`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from services.scorer.statistics.auc import aurocs
from services.scorer.statistics.classification import average_precisions
from services.scorer.statistics.estimate import Bools, Estimate, Floats, defined, undefined
from services.scorer.statistics.intervals import ClusterBootstrap

Separation = Callable[[Floats, Bools, Floats], Floats]
"""Activations [n], whether each is of the concept [n], weights [r, n] to a value per row of
weights, NaN where a class has no weight."""

NO_CONCEPT = "no sample is of the concept"
NO_OTHERS = "every sample is of the concept"


def gini(activations: Floats, concept: Bools, weights: Floats) -> Floats:
    """2 AUROC - 1, in [-1, 1]; ties count one half."""
    value: Floats = 2 * aurocs(activations, concept, weights) - 1
    return value


def folded_gini(activations: Floats, concept: Bools, weights: Floats) -> Floats:
    """|2 AUROC - 1|."""
    value: Floats = np.abs(gini(activations, concept, weights))
    return value


def precision(activations: Floats, concept: Bools, weights: Floats) -> Floats:
    """Average precision of the concept in the ranking by activation, in [0, 1]."""
    value = average_precisions(activations, concept, weights)
    both = (weights @ concept > 0) & (weights @ ~concept > 0)
    return np.where(both, value, np.nan)


def folded_precision(activations: Floats, concept: Bools, weights: Floats) -> Floats:
    """The same, of the ranking turned round where the Gini is below 0."""
    value = precision(activations, concept, weights)
    turned = gini(activations, concept, weights) < 0
    if turned.any():
        value[turned] = precision(-activations, concept, weights[turned])
    return value


RANGES: Mapping[Separation, tuple[float, float]] = {
    gini: (-1.0, 1.0),
    folded_gini: (0.0, 1.0),
    precision: (0.0, 1.0),
    folded_precision: (0.0, 1.0),
}
"""Smallest and largest value."""


def separate(
    separation: Separation,
    activations: Floats,
    concept: Bools,
    weights: Floats,
    bootstrap: ClusterBootstrap | None,
) -> Estimate:
    """One of `RANGES` over samples [n], with its interval where there is a bootstrap of
    their clusters; undefined where a class is missing."""
    if not concept.any():
        return undefined(NO_CONCEPT)
    if concept.all():
        return undefined(NO_OTHERS)
    value = defined(float(separation(activations, concept, weights[None, :])[0]))
    if bootstrap is None:
        return value
    replicates = separation(activations, concept, bootstrap.weights(weights))
    return value.within(bootstrap.bounds(replicates, RANGES[separation]))
