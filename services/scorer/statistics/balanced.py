"""Balanced accuracy and its companions over yes-or-no answers, unweighted."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from services.scorer.statistics.auc import NO_ITEMS, auroc, aurocs
from services.scorer.statistics.classification import NO_POSITIVES, NONE_PREDICTED
from services.scorer.statistics.estimate import Bools, Estimate, Floats, defined, undefined
from services.scorer.statistics.intervals import ClusterBootstrap

YES = 0.5
"""A probability from here on is a yes."""

NO_NEGATIVES = "no item is truly inactive"

Ratios = Callable[[Floats], Floats]
"""Summed cells [r, 4] (tp, fp, fn, tn) to a value per row, NaN where undefined."""


def cells(probability: Floats, active: Bools) -> Floats:
    """Each item's cell as one of (tp, fp, fn, tn), shape [n, 4]."""
    said = probability >= YES
    table: Floats = np.stack(
        [said & active, said & ~active, ~said & active, ~said & ~active], axis=1
    ).astype(np.float64)
    return table


def precision(sums: Floats) -> Floats:
    """tp / (tp + fp)."""
    tp, fp, _, _ = sums.T
    return _divided(tp, tp + fp)


def recall(sums: Floats) -> Floats:
    """tp / (tp + fn)."""
    tp, _, fn, _ = sums.T
    return _divided(tp, tp + fn)


def specificity(sums: Floats) -> Floats:
    """tn / (tn + fp)."""
    _, fp, _, tn = sums.T
    return _divided(tn, tn + fp)


def f1(sums: Floats) -> Floats:
    """2 tp / (2 tp + fp + fn), NaN where nothing is truly active."""
    tp, fp, fn, _ = sums.T
    value: Floats = np.where(tp + fn > 0, _divided(2 * tp, 2 * tp + fp + fn), np.nan)
    return value


def balanced_accuracy(sums: Floats) -> Floats:
    """Mean of recall and specificity, NaN where one class is missing."""
    return (recall(sums) + specificity(sums)) / 2


def balanced_accuracy_delphi(sums: Floats) -> Floats:
    """As delphi has it: a missing class counts as 0, so that the value cannot exceed one
    half."""
    return (np.nan_to_num(recall(sums)) + np.nan_to_num(specificity(sums))) / 2


def balanced_accuracy_neuronpedia(sums: Floats) -> Floats:
    """As Neuronpedia has it: 0 without inactive items, half the specificity without
    active ones."""
    missing = np.isnan(specificity(sums))
    value: Floats = np.where(missing, 0.0, balanced_accuracy_delphi(sums))
    return value


RATIOS: Mapping[str, Ratios] = {
    "balanced_accuracy": balanced_accuracy,
    "f1": f1,
    "precision": precision,
    "recall": recall,
    "specificity": specificity,
    "balanced_accuracy_delphi": balanced_accuracy_delphi,
    "balanced_accuracy_neuronpedia": balanced_accuracy_neuronpedia,
}
"""By the name of the metric."""


def ratio(metric: str, probability: Floats, active: Bools) -> Estimate:
    """One of `RATIOS` over items [n]; undefined with its reason."""
    if not probability.size:
        return undefined(NO_ITEMS)
    value = float(RATIOS[metric](cells(probability, active).sum(axis=0)[None, :])[0])
    if np.isfinite(value):
        return defined(value)
    if metric == "precision":
        return undefined(NONE_PREDICTED)
    lacks_positives = not active.any() and metric != "specificity"
    return undefined(NO_POSITIVES if lacks_positives else NO_NEGATIVES)


def ratio_with_interval(
    metric: str, probability: Floats, active: Bools, bootstrap: ClusterBootstrap
) -> Estimate:
    """The same with its interval; `bootstrap` resamples the items' documents."""
    value = ratio(metric, probability, active)
    if value.value is None:
        return value
    replicates = RATIOS[metric](bootstrap.sums(cells(probability, active)))
    return value.within(bootstrap.bounds(replicates, (0.0, 1.0)))


def auroc_with_interval(scores: Floats, active: Bools, bootstrap: ClusterBootstrap) -> Estimate:
    """Area under the ROC curve with its interval."""
    value = auroc(scores, active)
    if value.value is None:
        return value
    replicates = aurocs(scores, active, bootstrap.weights(np.ones_like(scores)))
    return value.within(bootstrap.bounds(replicates, (0.0, 1.0)))


def _divided(part: Floats, whole: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        value: Floats = np.where(whole > 0, part / whole, np.nan)
    return value
