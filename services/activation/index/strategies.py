"""Choosing windows for one feature: each choice with the probability that it was made.

Active windows come from the random sample of each bin of the maximum: a bin of c windows of which
s are kept gives each of them the probability s / c. Choosing n of the s by a seeded hash makes it
n / c. Silent windows come from the random panel of the split in the same way. The inverse of the
probability weights a window in estimates at natural prevalence.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.activation.index.evidence import FeatureRecords
from services.activation.index.hashing import priorities
from services.activation.index.layout import Ints
from services.activation.index.misses import Rung

SILENT_SHARE = 0.1
"""Below this share of the reference maximum a window counts as silent."""
QUINTILES = 5


class Strategy(enum.StrEnum):
    """How windows are chosen."""

    TOP = "top"
    """Strongest first, without duplicates."""
    QUANTILE = "quantile"
    """Equal shares of the quintiles of the maximum among windows where the feature fires."""
    RANDOM_ACTIVE = "random_active"
    """Random windows where the feature fires, stratified by bin of the maximum."""
    NON_ACTIVATING = "non_activating"
    """Random windows in which the feature is 0 at every token."""
    NEAR_MISS = "near_miss"
    """Windows that look like active ones, in which the feature stays silent or weak."""


@dataclass(frozen=True)
class Choice:
    """One chosen window."""

    window: int
    row: int | None
    """Row of the feature's records, or None where the feature is 0 at every token."""
    probability: float
    """In (0, 1]; 1 for windows picked by rank."""
    stratum: int
    rung: Rung | None = None
    """How near a near miss comes."""


def choose_top(records: FeatureRecords, count: int) -> list[Choice]:
    """Exemplars by rank; equal maxima go to the lower window number."""
    rows = np.flatnonzero(records.is_top)
    order = rows[np.lexsort((records.window[rows], -records.maximum[rows]))][:count]
    return [Choice(int(records.window[r]), int(r), 1.0, int(records.bin[r])) for r in order]


def choose_random_active(
    records: FeatureRecords, bin_counts: Ints, count: int, seed: int
) -> list[Choice]:
    """Sampled windows of every bin; places go to bins by the square root of their size."""
    rows = np.flatnonzero(records.is_sample)
    available = np.bincount(records.bin[rows], minlength=len(bin_counts))
    places = allocate(np.sqrt(bin_counts), available, count)
    chosen = []
    for stratum in np.flatnonzero(places).tolist():
        members = shuffled(rows[records.bin[rows] == stratum], records.window, seed)
        probability = float(places[stratum] / bin_counts[stratum])
        chosen += [
            Choice(int(records.window[row]), int(row), probability, stratum)
            for row in members[: places[stratum]]
        ]
    return sorted(chosen, key=lambda choice: choice.window)


def choose_quantile(
    records: FeatureRecords, bin_counts: Ints, count: int, seed: int
) -> list[Choice]:
    """Sampled windows by quintile of the weighted maximum, strongest quintiles served first."""
    rows = np.flatnonzero(records.is_sample)
    if len(rows) == 0:
        return []
    kept = sample_probability(records, bin_counts)
    order = rows[np.lexsort((records.window[rows], records.maximum[rows]))]
    weight = 1 / kept[order]
    middle = (np.cumsum(weight) - weight / 2) / weight.sum()
    quintile = np.minimum(QUINTILES - 1, (middle * QUINTILES).astype(np.int64))
    available = np.bincount(quintile, minlength=QUINTILES)
    places = allocate(np.ones(QUINTILES), available, count)
    chosen = []
    for stratum in range(QUINTILES):
        members = shuffled(order[quintile == stratum], records.window, seed)
        for row in members[: places[stratum]]:
            probability = float(kept[row] * places[stratum] / available[stratum])
            chosen.append(Choice(int(records.window[row]), int(row), probability, stratum))
    return sorted(chosen, key=lambda choice: choice.window)


def choose_silent(
    windows: Ints,
    probabilities: NDArray[np.float64],
    rows: Sequence[int | None],
    count: int,
    seed: int,
) -> list[Choice]:
    """``count`` of some windows at random, each with its own probability of being among them."""
    order = np.argsort(priorities(seed, windows), kind="stable")[:count]
    share = len(order) / len(windows) if len(windows) else 1.0
    chosen = [Choice(int(windows[i]), rows[i], float(probabilities[i] * share), 0) for i in order]
    return sorted(chosen, key=lambda choice: choice.window)


def sample_probability(records: FeatureRecords, bin_counts: Ints) -> NDArray[np.float64]:
    """[rows] probability that a window of the row's bin is in the sample."""
    kept = np.bincount(records.bin[records.is_sample], minlength=len(bin_counts))
    shares: NDArray[np.float64] = kept[records.bin] / np.maximum(1, bin_counts[records.bin])
    return shares


def allocate(weights: NDArray[np.float64], available: Ints, count: int) -> Ints:
    """Whole places per stratum, near proportion to ``weights``, never above ``available``.

    Every stratum with members gets one before any gets two; with too few places the strata at the
    end (the strongest) come first.
    """
    places = np.zeros(len(available), dtype=np.int64)
    left = min(count, int(available.sum()))
    for stratum in np.flatnonzero(available)[::-1][:left]:
        places[stratum] = 1
    left -= int(places.sum())
    while left > 0:
        open_strata = places < available
        # The next place goes where it costs the most to leave it out (Sainte-Lague).
        demand = np.where(open_strata, np.maximum(weights, 1e-9) / (2 * places + 1), -1.0)
        places[len(demand) - 1 - int(np.argmax(demand[::-1]))] += 1
        left -= 1
    return places


def shuffled(rows: Ints, window: Ints, seed: int) -> Ints:
    """Rows in an order that depends on seed and window number only."""
    ordered: Ints = rows[np.argsort(priorities(seed, window[rows]), kind="stable")]
    return ordered
