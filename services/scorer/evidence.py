"""The windows and facts of a request, sorted for reading, and the sample that is judged.

Windows come as lists of one strategy in one split. HELDOUT RANDOM_ACTIVE windows are a
stratified sample of those in which the feature fires, HELDOUT NON_ACTIVATING ones a
random sample of those in which it is 0 everywhere: together they stand for the whole
population. NEAR_MISS and TOP windows overlap with it and are never pooled with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from saexplain.activation.v1.activation_pb2 import WindowList
from saexplain.common.v1.feature_pb2 import FeatureFacts
from saexplain.common.v1.window_pb2 import Split, Window, WindowSelection, WindowStrategy
from services.scorer.statistics.estimate import Floats


@dataclass(frozen=True)
class WeightedWindow:
    """A window of the judged sample.

    Attributes:
        window: with activations.
        weight: how many windows of the population it stands for, >= 1.
    """

    window: Window
    weight: float


class Evidence:
    """What was measured on the corpus for one feature.

    Args:
        lists: validated lists (see `validation`); a window may be in several.
        facts: of the feature; `reference_max` is the unit of every share.
    """

    def __init__(self, lists: Iterable[WindowList], facts: FeatureFacts) -> None:
        self.facts = facts
        self.reference_max: float = facts.reference_max
        self._windows: dict[tuple[Split.ValueType, WindowStrategy.ValueType], list[Window]] = {}
        for entry in lists:
            key = (entry.selection.split, entry.selection.strategy)
            known = self._windows.setdefault(key, [])
            names = {w.name for w in known}
            known += [w for w in entry.windows if w.name not in names]

    def windows(
        self, split: Split.ValueType, *strategies: WindowStrategy.ValueType
    ) -> list[Window]:
        """The windows of some strategies in a split, in the order of the lists."""
        return [w for s in strategies for w in self._windows.get((split, s), ())]

    def holds(self, split: Split.ValueType, strategy: WindowStrategy.ValueType) -> bool:
        """Whether such a list was sent at all, empty or not."""
        return (split, strategy) in self._windows

    def shares(self, window: Window) -> Floats:
        """Activation at each token as a share of the reference maximum."""
        return activations(window) / self.reference_max


def selection(
    split: Split.ValueType, strategy: WindowStrategy.ValueType, count: int
) -> WindowSelection:
    """One entry of `Method.selections`."""
    return WindowSelection(split=split, strategy=strategy, count=count)


def activations(window: Window) -> Floats:
    """The window's activations in the SAE's unit, float64, shape [tokens]."""
    return np.asarray(window.activations, np.float64)


def max_activations(windows: Sequence[Window]) -> Floats:
    """Largest activation of each window in the SAE's unit, shape [windows]."""
    return np.array([max(w.activations) for w in windows], np.float64)


def weighted(windows: Sequence[Window]) -> list[WeightedWindow]:
    """All windows, each with its inverse inclusion probability."""
    return [WeightedWindow(w, 1 / w.inclusion_probability) for w in windows]


def thinned(windows: Sequence[Window], limit: int | None, seed: int) -> list[WeightedWindow]:
    """At most `limit` of the windows, for judges that cost money; None takes all.

    Systematic sampling over strata: every window is kept with the same probability, which
    multiplies its inclusion probability, and every stratum keeps its share. The same
    windows, limit and seed give the same sample, so that planning and scoring agree.
    """
    if limit is None or len(windows) <= limit:
        return weighted(windows)
    ordered = sorted(windows, key=lambda w: (w.stratum, w.name))
    step = len(ordered) / limit
    start = float(np.random.default_rng(seed % 2**64).uniform(0, step))
    kept = [ordered[min(int(start + i * step), len(ordered) - 1)] for i in range(limit)]
    return [WeightedWindow(w, step / w.inclusion_probability) for w in kept]
