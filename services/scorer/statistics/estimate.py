"""What every estimator returns: a finite value with its interval, or a reason for none."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

LEVEL = 0.95
"""Confidence level of every interval."""


@dataclass(frozen=True)
class Bounds:
    """An interval of confidence, `low <= high`, both finite."""

    low: float
    high: float
    kind: str
    level: float = LEVEL


@dataclass(frozen=True)
class Estimate:
    """A value, or the reason why there is none.

    Attributes:
        value: finite, or None where undefined.
        reason: why it is undefined; empty where it is defined.
        interval: of `value`; None until one is attached, and where undefined.
    """

    value: float | None
    reason: str = ""
    interval: Bounds | None = None

    def __post_init__(self) -> None:
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError("an estimate is finite or undefined")
        if (self.value is None) != bool(self.reason):
            raise ValueError("exactly one of value and reason")

    def within(self, interval: Bounds | None) -> Estimate:
        """The same estimate with an interval; an undefined one stays without."""
        return self if self.value is None else replace(self, interval=interval)


def defined(value: float) -> Estimate:
    """An estimate with a finite value."""
    return Estimate(float(value))


def undefined(reason: str) -> Estimate:
    """An estimate without one."""
    return Estimate(None, reason)


def is_constant(values: Floats) -> bool:
    """Whether all values are the very same number.

    Exact on purpose: subtracting a rounded mean from a constant leaves noise whose
    correlation looks like a measurement.
    """
    return bool(values.size == 0 or np.all(values == values[0]))


def check_weights(weights: Floats) -> None:
    """Raises ValueError unless all weights are finite and above 0."""
    if not (np.all(np.isfinite(weights)) and np.all(weights > 0)):
        raise ValueError("weights must be finite and > 0")
