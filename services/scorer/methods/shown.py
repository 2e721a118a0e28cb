"""Windows that a judge answers with a word each, and the scores of its answers: what
detection and fuzzing have in common.

Active are windows in which the feature fires at all, drawn in equal shares from the fifths
of its activation; inactive ones are random windows in which it is silent. Both as in
EleutherAI's delphi (arXiv 2410.13928), so that the share of active items is the method's
choice and not natural prevalence. Rungs are further inactive items, harder ones, and are
never pooled with the sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from saexplain.common.v1.score_pb2 import MethodResult, ScoreRow
from saexplain.common.v1.window_pb2 import (
    SPLIT_HELDOUT,
    WINDOW_STRATEGY_NON_ACTIVATING,
    WINDOW_STRATEGY_QUANTILE,
    Window,
    WindowStrategy,
)
from saexplain.scorer.v1.scorer_pb2 import ScoreRequest
from services.scorer import baselines
from services.scorer.baselines import Predict, Predictor
from services.scorer.evidence import Evidence, selection
from services.scorer.firing import firing_likelihood
from services.scorer.methods.base import ScoringMethod, evidence_of, other_feature_pattern
from services.scorer.methods.sample import UNPREDICTED
from services.scorer.predictions import Predictions
from services.scorer.results import Counts, Measured, result
from services.scorer.statistics import balanced
from services.scorer.statistics.auc import auroc
from services.scorer.statistics.balanced import auroc_with_interval, ratio, ratio_with_interval
from services.scorer.statistics.estimate import Bools, Estimate, Floats, undefined
from services.scorer.statistics.intervals import ClusterBootstrap

PER_CLASS = 50
"""Active and inactive windows, as published."""

SELECTIONS = (
    selection(SPLIT_HELDOUT, WINDOW_STRATEGY_QUANTILE, PER_CLASS),
    selection(SPLIT_HELDOUT, WINDOW_STRATEGY_NON_ACTIVATING, PER_CLASS),
)

METRICS = (*balanced.RATIOS, "auc")
"""Of the sample, the primary one first. None of them falls when a rare unrelated part is
added, since the sample holds no window of it."""


@dataclass(frozen=True)
class Shown:
    """A window as a judge sees it.

    Attributes:
        id: of the item.
        window: with activations.
        active: whether a yes is right.
        highlights: places of highlighted tokens; empty where none are.
    """

    id: str
    window: Window
    active: bool
    highlights: tuple[int, ...] = ()


@dataclass(frozen=True)
class Answers:
    """Items with an answer, and how many have none.

    Attributes:
        shown: n of them.
        probability: what was answered, shape [n].
        failed: items left out.
    """

    shown: Sequence[Shown]
    probability: Floats
    failed: int

    @property
    def active(self) -> Bools:
        """The truth, shape [n]."""
        return np.array([s.active for s in self.shown], np.bool_)

    @property
    def counts(self) -> Counts:
        """How many items stand behind a score."""
        active = int(self.active.sum())
        return Counts(active, len(self.shown) - active, self.failed)

    def answered_by(self, predict: Predict) -> Floats:
        """What a trivial explanation answers on the same items, shape [n]."""
        return np.array([likelihood(predict, s) for s in self.shown], np.float64)


def likelihood(predict: Predict, shown: Shown) -> float:
    """How likely a trivial explanation calls an item firing, by its largest share, among
    the highlighted tokens where there are any."""
    shares = predict(shown.window)
    largest = shares[list(shown.highlights)].max() if shown.highlights else shares.max()
    return firing_likelihood(float(largest))


def heldout(
    evidence: Evidence, strategy: WindowStrategy.ValueType, limit: int, seed: int
) -> list[Window]:
    """At most so many HELDOUT windows of a strategy, drawn evenly over its strata, ordered
    by name so that their order shows nothing."""
    windows = sorted(evidence.windows(SPLIT_HELDOUT, strategy), key=lambda w: (w.stratum, w.name))
    if len(windows) > limit:
        step = len(windows) / limit
        start = float(np.random.default_rng(seed % 2**64).uniform(0, step))
        windows = [windows[min(int(start + i * step), len(windows) - 1)] for i in range(limit)]
    return sorted(windows, key=lambda w: w.name)


def sample(evidence: Evidence, seed: int) -> tuple[list[Window], list[Window]]:
    """Active and inactive windows. A QUANTILE window is one in which the feature fires."""
    return (
        heldout(evidence, WINDOW_STRATEGY_QUANTILE, PER_CLASS, seed),
        heldout(evidence, WINDOW_STRATEGY_NON_ACTIVATING, PER_CLASS, seed),
    )


def read(shown: Sequence[Shown], predictions: Predictions) -> tuple[Answers, list[ScoreRow]]:
    """The answers to some items and rows of those that have none."""
    said = [predictions.probability(s.id) for s in shown]
    answered = [(s, p) for s, p in zip(shown, said, strict=True) if p is not None]
    answers = Answers(
        shown=[s for s, _ in answered],
        probability=np.array([p for _, p in answered], np.float64),
        failed=len(shown) - len(answered),
    )
    rows = [
        ScoreRow(item=s.id, measured=_truth(s), weight=1.0, excluded_reason=UNPREDICTED)
        for s, p in zip(shown, said, strict=True)
        if p is None
    ]
    return answers, rows


def rows_of(answers: Answers, excluded_reason: str = "") -> list[ScoreRow]:
    """One row per answered item: the likelihood that was answered, 1 or 0 as the truth."""
    return [
        ScoreRow(
            item=s.id,
            predicted=float(p),
            measured=_truth(s),
            weight=1.0,
            excluded_reason=excluded_reason,
        )
        for s, p in zip(answers.shown, answers.probability, strict=True)
    ]


def score_answers(
    method: ScoringMethod,
    request: ScoreRequest,
    main: Sequence[Shown],
    rungs: Mapping[str, Sequence[Shown]],
) -> MethodResult:
    """The metrics of the sample, and of each rung its share of right refusals."""
    evidence, seed = evidence_of(request), request.options.seed
    predictions = Predictions(request.predictions)
    trivial = baselines.fit(evidence, other_feature_pattern(request))
    answers, rows = read(main, predictions)
    rows = rows_of(answers) + rows
    measured = _measured(answers, trivial, METRICS, seed)
    known = {row.item for row in rows}
    for metric, shown in rungs.items():
        refused, without = read(shown, predictions)
        further = rows_of(refused, f"only in {metric}") + without
        rows += [row for row in further if row.item not in known]
        specificity = _measured(refused, trivial, ("specificity",), seed)["specificity"]
        measured[metric] = specificity
    return result(method, request, measured, rows, SPLIT_HELDOUT)


def _truth(shown: Shown) -> float:
    return 1.0 if shown.active else 0.0


def _measured(
    answers: Answers, trivial: Sequence[Predictor], metrics: Sequence[str], seed: int
) -> dict[str, Measured]:
    bootstrap = ClusterBootstrap([s.window.document for s in answers.shown], seed)
    others = {b.name: answers.answered_by(b.predict) for b in trivial if b.predict is not None}
    return {
        metric: Measured(
            _estimate(metric, answers.probability, answers.active, bootstrap),
            answers.counts,
            {
                b.name: _estimate(metric, others[b.name], answers.active, None)
                if b.name in others
                else undefined(b.undefined_reason)
                for b in trivial
            },
        )
        for metric in metrics
    }


def _estimate(
    metric: str, probability: Floats, active: Bools, bootstrap: ClusterBootstrap | None
) -> Estimate:
    if metric == "auc":
        if bootstrap is None:
            return auroc(probability, active)
        return auroc_with_interval(probability, active, bootstrap)
    if bootstrap is None:
        return ratio(metric, probability, active)
    return ratio_with_interval(metric, probability, active, bootstrap)
