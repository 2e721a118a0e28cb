"""Numbers made of other estimates: harmonic means and the gap that a score closes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from services.scorer.statistics.estimate import Estimate, defined, undefined

MIN_GAP = 0.01
"""Below this distance between the two baselines their gap is noise."""


def gap_closed(
    value: float | None, top_token: float | None, token_table: float | None
) -> float | None:
    """(value - top_token) / (token_table - top_token); None where a part is missing or the
    denominator is below 0.01."""
    if value is None or top_token is None or token_table is None:
        return None
    gap = token_table - top_token
    return (value - top_token) / gap if gap >= MIN_GAP else None


def harmonic(coverage: Estimate, rejection: Estimate) -> Estimate:
    """2 c r / (c + r) of one feature (DAFI's Input); 0 where both are 0."""
    if coverage.value is None:
        return undefined(coverage.reason)
    if rejection.value is None:
        return undefined(rejection.reason)
    total = coverage.value + rejection.value
    return defined(2 * coverage.value * rejection.value / total if total else 0.0)


def harmonic_of_means(coverages: Sequence[float], rejections: Sequence[float]) -> Estimate:
    """Harmonic mean of mean coverage and mean rejection over features: DAFI's headline."""
    if not coverages or not rejections:
        return undefined("no feature has a value")
    return harmonic(defined(float(np.mean(coverages))), defined(float(np.mean(rejections))))


def mean_of_harmonics(coverages: Sequence[float], rejections: Sequence[float]) -> Estimate:
    """Mean over features of their own harmonic means; never above `harmonic_of_means`."""
    pairs = zip(coverages, rejections, strict=True)
    values = [harmonic(defined(c), defined(r)).value for c, r in pairs]
    known = [v for v in values if v is not None]
    return defined(float(np.mean(known))) if known else undefined("no feature has a value")
