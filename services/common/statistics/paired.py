"""Means over features and paired differences between two ways of explaining them.

The unit of resampling is the feature: what is claimed is about further features of the
same SAE, not about further windows of these. Intervals are bias-corrected and accelerated
(BCa: Efron, 1987); p-values are of the sign-flip test of a mean difference of 0, exact
where all flips can be tried (Fisher, 1935; Pitman, 1937).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.95
"""Confidence level of every interval."""

REPLICATES = 10_000
"""Resamples of a bootstrap or a test; 2**13 sign flips are fewer, so that the test is exact
up to 13 features."""

_VALUES_AT_ONCE = 4_000_000
"""Resampled values held in memory at a time."""


@dataclass(frozen=True)
class MeanEstimate:
    """A mean over features.

    Attributes:
        count: features, >= 1.
        mean: their mean.
        low: lower bound. None where resampling says nothing: one feature only, or the very
            same value for all.
        high: upper bound, likewise.
        kind: how the interval was computed; empty where there is none.
        level: of the interval.
    """

    count: int
    mean: float
    low: float | None = None
    high: float | None = None
    kind: str = ""
    level: float = LEVEL


@dataclass(frozen=True)
class PairedDifference:
    """How much higher the first of two is, over the features that have both values.

    Attributes:
        estimate: of the mean difference.
        p_value: two-sided, of the sign-flip test; None with fewer than two features.
        exact: whether all sign flips were tried.
    """

    estimate: MeanEstimate
    p_value: float | None
    exact: bool


def bootstrap_mean(
    values: Sequence[float], *, seed: int, replicates: int = REPLICATES
) -> MeanEstimate:
    """The mean of values, one per feature, with a BCa interval.

    Raises:
        ValueError: no value, one that is not finite, or fewer than 100 replicates.
    """
    data = _checked(values, replicates)
    mean = math.fsum(data) / data.size
    # Exact on purpose: a constant has no spread, and any noise of rounding would look like one.
    if data.size < 2 or bool(np.all(data == data[0])):
        return MeanEstimate(int(data.size), mean)
    found = stats.bootstrap(
        (data,),
        np.mean,
        n_resamples=replicates,
        batch=_batch(data.size),
        confidence_level=LEVEL,
        method="BCa",
        rng=_rng(seed),
    ).confidence_interval
    return MeanEstimate(int(data.size), mean, float(found.low), float(found.high), "bootstrap_bca")


def paired_difference(
    first: Sequence[float], second: Sequence[float], *, seed: int, replicates: int = REPLICATES
) -> PairedDifference:
    """The mean of `first[i] - second[i]`, entry i of both being of the same feature.

    Raises:
        ValueError: different lengths, no pair, a value that is not finite, or fewer than 100
            replicates.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} values cannot be paired with {len(second)}")
    differences = _checked(first, replicates) - _checked(second, replicates)
    estimate = bootstrap_mean(differences.tolist(), seed=seed, replicates=replicates)
    exact = 2**differences.size <= replicates
    if differences.size < 2:
        return PairedDifference(estimate, None, exact)
    if not np.any(differences):
        return PairedDifference(estimate, 1.0, exact)
    test = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        n_resamples=replicates,
        batch=_batch(differences.size),
        vectorized=True,
        rng=_rng(seed),
    )
    return PairedDifference(estimate, float(test.pvalue), exact)


def _checked(values: Sequence[float], replicates: int) -> NDArray[np.float64]:
    data = np.asarray(values, np.float64)
    if data.ndim != 1 or data.size == 0 or not np.all(np.isfinite(data)):
        raise ValueError("finite values are needed, at least one")
    if replicates < 100:
        raise ValueError(f"{replicates} replicates are too few for an interval")
    return data


def _batch(size: int) -> int:
    return max(1, _VALUES_AT_ONCE // size)


def _rng(seed: int) -> np.random.Generator:
    # SeedSequence takes no negative numbers; int64 seeds do come negative.
    return np.random.default_rng(seed % 2**64)
