"""Neuronpedia's autointerp service (MIT): fuzzing, detection and embedding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from services.scorer.statistics.auc import auroc
from services.scorer.statistics.estimate import Estimate, Floats, defined, undefined
from services.scorer.statistics.published.labels import Label, first_list

SHOWN = 5
"""Examples per call; a reply of another number of labels fails, also for a shorter batch."""

FAILED = -1
"""Its mark of a failed prediction; a reply that says -1 is taken for one."""


def neuronpedia_labels(reply: str | None, examples: int) -> list[Label]:
    """Predictions of a batch, one per example; `FAILED` for all where the reply is not of
    five labels. Labels beyond the batch are dropped."""
    labels = first_list(reply, SHOWN)
    return [FAILED] * examples if labels is None else labels[:examples]


def neuronpedia_score(predictions: Sequence[Label], activating: Sequence[bool]) -> Estimate:
    """Balanced accuracy of fuzzing and detection. 0 outright where no example is inactive,
    half of the specificity where none is active; undefined where every prediction failed.
    A prediction that is neither 0 nor 1 is wrong."""
    kept = [(p, a) for p, a in zip(predictions, activating, strict=True) if p != FAILED]
    if not kept:
        return undefined("every prediction failed")
    correct = [(p == a, a) for p, a in kept]
    hits, misses = [c for c, a in correct if a], [c for c, a in correct if not a]
    if not misses:
        return defined(0.0)
    recall = sum(hits) / len(hits) if hits else 0.0
    return defined((recall + sum(misses) / len(misses)) / 2)


def neuronpedia_wire(predictions: Sequence[Label]) -> list[bool]:
    """Predictions as the service sends them: a failed one is false there."""
    return [p != FAILED and bool(p) for p in predictions]


def neuronpedia_embedding(similarities: Floats, activations: Sequence[Floats]) -> Estimate:
    """Area under the ROC curve of the similarities [n]; an example is active where the sum
    of its activations is above 0. Undefined where a class is missing."""
    active = np.array([float(np.sum(values)) > 0 for values in activations], np.bool_)
    return auroc(similarities, active)
