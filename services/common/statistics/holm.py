"""Holm's correction for many comparisons (Holm, 1979): no error in the whole family with
probability 1 - α, whatever the tests depend on."""

from __future__ import annotations

import math
from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values in the order given: the i-th smallest of m times m - i + 1, never
    below that of a smaller one, at most 1. Reject at α where the adjusted one is <= α.

    Raises:
        ValueError: one of them is not in [0, 1].
    """
    if any(math.isnan(p) or not 0 <= p <= 1 for p in p_values):
        raise ValueError("p-values are in [0, 1]")
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted
