"""How many examples and features a wanted precision needs.

Precision is half the width of a confidence interval. Two kinds of sampling limit it: the
examples that one feature is scored on, and the features that a mean is taken over. With
n examples a feature and F features the standard error of a mean score is

    sqrt((between + within / n) / F)

where `between` is the variance of the features' true scores and `within` the variance that
one example contributes, `n` times the squared standard error of a feature's score (for a
share of independent examples p (1 - p); read off an interval, clustering is part of it).

A comparison of two explainers works on the differences per feature: `features_for_mean` on
their standard deviation gives a wanted interval, `features_to_detect` a wanted power.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, t

LEVEL = 0.95
POWER = 0.8

MOST = 10**9
"""More examples or features than this are out of reach: the answer is None."""


@dataclass(frozen=True)
class ScoredFeature:
    """One feature's score with its interval.

    Attributes:
        value: finite.
        low, high: interval of `value` at `LEVEL`, low <= high, both finite.
        examples: items behind it, >= 1.
    """

    value: float
    low: float
    high: float
    examples: int

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.value, self.low, self.high))):
            raise ValueError("a score and its interval are finite")
        if self.low > self.high or self.examples < 1:
            raise ValueError("needs low <= high and at least one example")

    @property
    def variance(self) -> float:
        """Squared standard error, as the width of the interval implies."""
        return ((self.high - self.low) / 2 / _normal(LEVEL)) ** 2


@dataclass(frozen=True)
class Need:
    """What a precision needs.

    Attributes:
        examples_per_feature: examples so that the typical feature's own interval is that
            narrow; None where more than `MOST` are needed.
        features: features so that the mean's interval is, at the present number of
            examples; None where more than `MOST` are needed, or a single feature says
            nothing about their spread.
        between_sd: standard deviation of the features' true scores; None for one feature.
        within_sd: standard deviation that one example contributes.
        present_half_width: of the mean, with what there is; None for one feature.
    """

    examples_per_feature: int | None
    features: int | None
    between_sd: float | None
    within_sd: float
    present_half_width: float | None


def examples_for_share(half_width: float, share: float = 0.5, level: float = LEVEL) -> int | None:
    """Independent examples until Wilson's interval of a share is at most 2 x `half_width`
    wide. A share of one half needs the most.

    Raises:
        ValueError: `half_width` outside (0, 0.5), `share` outside [0, 1], `level` outside
            (0, 1).
    """
    if not 0 < half_width < 0.5:
        raise ValueError("half_width must be in (0, 0.5)")
    if not 0 <= share <= 1:
        raise ValueError("share must be in [0, 1]")
    z2 = _normal(level) ** 2

    def width(n: int) -> float:
        return math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)

    return _fewest(lambda n: width(n) <= half_width, 1)


def features_for_mean(standard_deviation: float, half_width: float) -> int | None:
    """Features until Student's interval of their mean is at most 2 x `half_width` wide.
    For a comparison: the standard deviation of the differences per feature.

    Raises:
        ValueError: not finite, a negative deviation, or no positive width.
    """
    _check_finite(standard_deviation, half_width)
    if standard_deviation < 0 or half_width <= 0:
        raise ValueError("needs a deviation >= 0 and a width > 0")

    def narrow(n: int) -> bool:
        return _student(n) * standard_deviation / math.sqrt(n) <= half_width

    return _fewest(narrow, 2)


def features_to_detect(
    standard_deviation: float, difference: float, power: float = POWER, level: float = LEVEL
) -> int | None:
    """Features until a two-sided paired test at 1 - `level` finds a true mean `difference`
    with probability `power` (normal approximation, rounded up, at least 2).

    Raises:
        ValueError: not finite, a negative deviation, no difference, or a power or level
            outside (0, 1).
    """
    _check_finite(standard_deviation, difference)
    if standard_deviation < 0 or difference == 0 or not 0 < power < 1:
        raise ValueError("needs a deviation >= 0, a difference and a power in (0, 1)")
    units = (_normal(level) + float(norm.ppf(power))) * standard_deviation / abs(difference)
    needed = math.ceil(units**2 - 1e-9)
    return max(2, needed) if needed <= MOST else None


def need(scores: Sequence[ScoredFeature], half_width: float) -> Need:
    """What a precision needs, learnt from features that were scored already. The variance
    between features is the observed one less what the examples explain, never below 0.

    Raises:
        ValueError: no scores, or no positive width.
    """
    _check_finite(half_width)
    if not scores or half_width <= 0:
        raise ValueError("needs at least one score and a width > 0")
    per_example = float(np.mean([s.variance * s.examples for s in scores]))
    wanted = (half_width / _normal(LEVEL)) ** 2
    examples = max(1, math.ceil(per_example / wanted - 1e-9))
    kept = examples if examples <= MOST else None
    within_sd = math.sqrt(per_example)
    if len(scores) < 2:
        return Need(kept, None, None, within_sd, None)
    observed = float(np.var([s.value for s in scores], ddof=1))
    explained = float(np.mean([s.variance for s in scores]))
    deviation = math.sqrt(observed)
    return Need(
        examples_per_feature=kept,
        features=features_for_mean(deviation, half_width),
        between_sd=math.sqrt(max(observed - explained, 0.0)),
        within_sd=within_sd,
        present_half_width=_student(len(scores)) * deviation / math.sqrt(len(scores)),
    )


def _normal(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError("level must be in (0, 1)")
    return float(norm.ppf(0.5 + level / 2))


def _student(n: int) -> float:
    return float(t.ppf(0.5 + LEVEL / 2, n - 1))


def _fewest(enough: Callable[[int], bool], least: int) -> int | None:
    """The smallest n >= `least` that is enough, where more is never less."""
    high = least
    while not enough(high):
        if high > MOST:
            return None
        high *= 2
    low = least
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low if low <= MOST else None


def _check_finite(*numbers: float) -> None:
    if not all(map(math.isfinite, numbers)):
        raise ValueError("numbers must be finite")
