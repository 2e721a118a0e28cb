"""A weighted sample of windows with predicted and measured activations, as arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from saexplain.common.v1.score_pb2 import ScoreRow
from saexplain.common.v1.window_pb2 import Window, WindowStrategy
from services.scorer.baselines import ACTIVE_SHARE, Predict
from services.scorer.evidence import Evidence, WeightedWindow
from services.scorer.statistics.estimate import Bools, Floats, Ints

QUINTILES = 5

UNPREDICTED = "no prediction"


@dataclass(frozen=True)
class Sample:
    """Windows that have a prediction. Shares are of the reference maximum.

    Attributes:
        windows: the windows, n of them.
        weights: how many windows of the population each stands for, shape [n].
        predicted: predicted shares, one array [tokens] per window.
        measured: measured shares, likewise.
        quintile: 1 (weakest) to 5 for windows in which the feature fires, by their
            maximum and in fifths of equal weight; 0 for others, shape [n].
        failed: windows left out because they have no prediction.
    """

    windows: Sequence[Window]
    weights: Floats
    predicted: Sequence[Floats]
    measured: Sequence[Floats]
    quintile: Ints
    failed: int

    @cached_property
    def predicted_max(self) -> Floats:
        """Largest predicted share of each window, shape [n]."""
        return np.array([p.max() for p in self.predicted], np.float64)

    @cached_property
    def measured_max(self) -> Floats:
        """Largest measured share of each window, shape [n]."""
        return np.array([m.max() for m in self.measured], np.float64)

    @property
    def called(self) -> Bools:
        """Whether each window is predicted active."""
        return self.predicted_max >= ACTIVE_SHARE

    @property
    def active(self) -> Bools:
        """Whether each window truly is."""
        return self.measured_max >= ACTIVE_SHARE

    @property
    def documents(self) -> list[str]:
        """The document of each window."""
        return [w.document for w in self.windows]

    def tokens(self) -> tuple[Floats, Floats, Floats, Ints]:
        """Predicted, measured, weight and window index of every token."""
        if not self.windows:
            empty = np.zeros(0)
            return empty, empty, empty, np.zeros(0, np.int64)
        lengths = np.array([len(p) for p in self.predicted])
        owner = np.repeat(np.arange(len(lengths)), lengths)
        return (
            np.concatenate(self.predicted),
            np.concatenate(self.measured),
            self.weights[owner],
            owner,
        )

    def where(self, mask: Bools) -> Sample:
        """The windows of a mask [n]."""
        kept: list[int] = np.flatnonzero(mask).tolist()
        return replace(
            self,
            windows=[self.windows[i] for i in kept],
            weights=self.weights[kept],
            predicted=[self.predicted[i] for i in kept],
            measured=[self.measured[i] for i in kept],
            quintile=self.quintile[kept],
        )

    def predicted_by(self, predict: Predict) -> Sample:
        """The same windows with another explanation's predictions."""
        return replace(self, predicted=[predict(w) for w in self.windows])

    def rows(self, excluded_reason: str = "") -> list[ScoreRow]:
        """One row per window."""
        return [
            ScoreRow(
                item=window.name,
                predicted=float(predicted.max()),
                measured=float(measured.max()),
                weight=float(weight),
                excluded_reason=excluded_reason,
            )
            for window, weight, predicted, measured in zip(
                self.windows, self.weights, self.predicted, self.measured, strict=True
            )
        ]


def gather(
    evidence: Evidence,
    drawn: Sequence[WeightedWindow],
    predict: Callable[[Window], Floats | None],
) -> tuple[Sample, list[ScoreRow]]:
    """The sample of the drawn windows that have a prediction, and rows of those that have
    none.

    Windows without a prediction are neither wrong nor silent: within each strategy the
    others stand for them, which keeps the prevalence when a judge fails more often on one
    kind than on the other.
    """
    predictions = [predict(item.window) for item in drawn]
    answered = [i for i, p in enumerate(predictions) if p is not None]
    weights = weights_of_answered(drawn, answered)
    measured = [evidence.shares(drawn[i].window) for i in answered]
    sample = Sample(
        windows=[drawn[i].window for i in answered],
        weights=weights,
        predicted=[p for p in predictions if p is not None],
        measured=measured,
        quintile=_quintiles(np.array([m.max() for m in measured], np.float64), weights),
        failed=len(drawn) - len(answered),
    )
    return sample, [
        ScoreRow(
            item=item.window.name,
            measured=float(evidence.shares(item.window).max()),
            weight=item.weight,
            excluded_reason=UNPREDICTED,
        )
        for item, prediction in zip(drawn, predictions, strict=True)
        if prediction is None
    ]


def weights_of_answered(drawn: Sequence[WeightedWindow], answered: Sequence[int]) -> Floats:
    totals: dict[WindowStrategy.ValueType, float] = {}
    reached: dict[WindowStrategy.ValueType, float] = {}
    for item in drawn:
        strategy = item.window.strategy
        totals[strategy] = totals.get(strategy, 0.0) + item.weight
    for i in answered:
        strategy = drawn[i].window.strategy
        reached[strategy] = reached.get(strategy, 0.0) + drawn[i].weight
    factors = {s: totals[s] / reached[s] for s in reached}
    return np.array([drawn[i].weight * factors[drawn[i].window.strategy] for i in answered])


def _quintiles(maxima: Floats, weights: Floats) -> Ints:
    result = np.zeros(len(maxima), np.int64)
    firing = np.flatnonzero(maxima > 0)
    order = firing[np.argsort(maxima[firing], kind="stable")]
    if order.size:
        middle = np.cumsum(weights[order]) - weights[order] / 2
        rank = middle / weights[order].sum()
        result[order] = np.minimum((QUINTILES * rank).astype(np.int64) + 1, QUINTILES)
    return result
