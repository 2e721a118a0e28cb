"""How far a faster type of arithmetic agrees with float32: values, sets above τ, exemplar ranks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.throughput.material import Material
from services.activation.encoder.model import CutModel

_TAU = 0.2
"""Of a feature's largest activation: a token above it counts as firing."""
_EXEMPLARS = 10
_LEAST_FIRING = 5
"""Features that fire in fewer texts have no ranks to compare."""


@dataclass(frozen=True)
class Agreement:
    """Over all features that fire in at least `_LEAST_FIRING` texts, all scored tokens."""

    features: int
    relative_error: float
    """Median over features of the root mean square difference at tokens active in either, over
    the float32 maximum."""
    above_tau: float
    """Mean over features of the Jaccard overlap of the tokens above τ."""
    exemplars: float
    """Mean over features of the share of the ten texts of highest maximum that both name."""
    rank_correlation: float
    """Mean over features of Spearman's ρ of the texts' maxima, of texts where both are active."""

    def __str__(self) -> str:
        return (
            f"{self.features} features: median rms difference {self.relative_error:.4f} of the "
            f"maximum; tokens above τ overlap {self.above_tau:.3f}; top-{_EXEMPLARS} exemplars "
            f"shared {self.exemplars:.3f}; rank correlation of maxima {self.rank_correlation:.3f}"
        )


def agreement(material: Material, other: CutModel) -> Agreement:
    """Every feature of the SAE on all texts, float32 against ``other``."""
    usual, changed = _dense(material, material.model), _dense(material, other)
    starts = np.cumsum([0, *(len(row) for row in material.rows)])[:-1]
    ours, theirs = (np.maximum.reduceat(values, starts, axis=0) for values in (usual, changed))
    enough = np.flatnonzero((ours > 0).sum(axis=0) >= _LEAST_FIRING)
    peaks = usual.max(axis=0)
    errors, overlaps, shared, ranks = [], [], [], []
    for feature in enough:
        a, b, peak = usual[:, feature], changed[:, feature], peaks[feature]
        active = (a > 0) | (b > 0)
        errors.append(float(np.sqrt(np.mean((a[active] - b[active]) ** 2)) / peak))
        above, also = a > _TAU * peak, b > _TAU * peak
        overlaps.append(float((above & also).sum() / (above | also).sum()))
        count = min(_EXEMPLARS, int((ours[:, feature] > 0).sum()))
        first, second = (set(_top(maxima[:, feature], count)) for maxima in (ours, theirs))
        shared.append(len(first & second) / count)
        both = (ours[:, feature] > 0) & (theirs[:, feature] > 0)
        if both.sum() >= _LEAST_FIRING:
            ranks.append(_spearman(ours[both, feature], theirs[both, feature]))
    return Agreement(
        len(enough),
        float(np.median(errors)),
        float(np.mean(overlaps)),
        float(np.mean(shared)),
        float(np.mean(ranks)),
    )


def _dense(material: Material, model: CutModel) -> NDArray[np.float32]:
    """[tokens of all rows, features]; built from the sparse answer to spare memory twice over."""
    values = np.zeros((material.token_count, material.sae.feature_count), dtype=np.float32)
    start = 0
    for row in material.encoder(model).encode_sparse(material.sae, material.rows):
        tokens = np.repeat(np.arange(len(row.indptr) - 1), np.diff(row.indptr))
        values[start + tokens, row.features] = row.values
        start += len(row.indptr) - 1
    return values


def _top(maxima: NDArray[np.float32], count: int) -> list[int]:
    return [int(index) for index in np.lexsort((np.arange(len(maxima)), -maxima))[:count]]


def _spearman(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    first, second = (np.argsort(np.argsort(values)) for values in (a, b))
    return float(np.corrcoef(first, second)[0, 1])
