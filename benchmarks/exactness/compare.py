"""Differences between two sets of values, as the numerics contract counts them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.exactness.references import Values

TOLERANCE = 1e-4
"""Of the feature's reference maximum, on pre-activations."""


@dataclass(frozen=True)
class Difference:
    """How far ours are from the reference."""

    relative_error: float
    """Largest difference of pre-activations, as a share of the feature's largest one."""
    value_error: float
    """Largest difference of activations that both call active, as a share of the feature's
    largest activation."""
    flips: int
    """Entries that one calls active and the other does not."""
    flips_outside: int
    """Of those, entries whose value is larger than the tolerance allows to appear or vanish by
    rounding: further than the band from where the nonlinearity or the ranking cuts."""
    active: int
    """Entries that the reference calls active."""

    @property
    def within(self) -> bool:
        """Whether the contract holds."""
        errors = max(self.relative_error, self.value_error)
        return errors <= TOLERANCE and self.flips_outside == 0


def compare(ours: Values, theirs: Values) -> Difference:
    """Compare over all tokens and features.

    The contract's reference maximum comes from a corpus. On a few hundred tokens a rarely firing
    feature's largest activation would be an accident of the sample, so that pre-activations are
    held against the feature's largest absolute one; activations are held against the largest
    activation all the same.
    """
    largest = np.abs(theirs.pre).max(axis=0)
    peak = theirs.activations.max(axis=0)
    error = np.abs(ours.pre - theirs.pre) / largest
    is_active, was_active = ours.activations > 0, theirs.activations > 0
    flips = is_active != was_active
    both = is_active & was_active
    values = np.abs(ours.activations - theirs.activations) / np.where(peak > 0, peak, largest)
    return Difference(
        relative_error=float(error.max()),
        value_error=float(values[both].max(initial=0.0)),
        flips=int(flips.sum()),
        flips_outside=int((flips & ~_at_the_cut(theirs, largest)).sum()),
        active=int(was_active.sum()),
    )


def _at_the_cut(theirs: Values, largest: np.ndarray) -> np.ndarray:
    """Entries within the tolerance of the smallest active or the largest silent pre-activation of
    their feature (thresholds) or of their token (rankings)."""
    active, pre = theirs.activations > 0, theirs.pre
    band = TOLERANCE * largest[None, :]
    near = np.zeros_like(active)
    for axis in (0, 1):
        lowest = np.where(active, pre, np.inf).min(axis=axis, keepdims=True)
        highest = np.where(active, -np.inf, pre).max(axis=axis, keepdims=True)
        near |= (np.abs(pre - lowest) <= 2 * band) | (np.abs(pre - highest) <= 2 * band)
    return near
