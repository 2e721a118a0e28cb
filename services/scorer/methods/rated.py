"""HELDOUT windows that a judge rates by the explanation, and what the ratings say of the
feature: what responsiveness and purity have in common.

The windows are those of the corpus method, with its weights, so that the numbers are at
natural prevalence. A judge that reads the explanation rates each 2 (clearly expresses it),
1 (partly) or 0 (not); 2 against 0 are the two classes and 1 is left out, as FADE
(arXiv 2502.16994) has it. A baseline rates by its largest share: 2 from half of the
reference maximum on, 0 below a tenth, as the judge `pattern` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from saexplain.common.v1.score_pb2 import MethodResult, ScoreRow
from saexplain.common.v1.window_pb2 import (
    SPLIT_HELDOUT,
    WINDOW_STRATEGY_NON_ACTIVATING,
    WINDOW_STRATEGY_RANDOM_ACTIVE,
    Window,
    WindowStrategy,
)
from saexplain.scorer.v1.scorer_pb2 import PlanScoreRequest, PlanScoreResponse, ScoreRequest
from services.scorer import baselines
from services.scorer.baselines import Predict
from services.scorer.evidence import Evidence, WeightedWindow, selection, thinned
from services.scorer.firing import CLEARLY, PARTLY, rating_of
from services.scorer.methods.base import (
    LLM_JUDGE,
    ScoringMethod,
    evidence_of,
    other_feature_pattern,
    unscorable,
)
from services.scorer.methods.items import rate_item
from services.scorer.methods.sample import UNPREDICTED, weights_of_answered
from services.scorer.predictions import Predictions
from services.scorer.results import Counts, Measured, nothing_scored, result
from services.scorer.statistics.estimate import Estimate, Floats, Ints, undefined
from services.scorer.statistics.intervals import ClusterBootstrap
from services.scorer.statistics.separation import Separation, separate

SELECTIONS = (
    selection(SPLIT_HELDOUT, WINDOW_STRATEGY_RANDOM_ACTIVE, 300),
    selection(SPLIT_HELDOUT, WINDOW_STRATEGY_NON_ACTIVATING, 500),
    *baselines.SELECTIONS,
)

LLM_LIMITS: Mapping[WindowStrategy.ValueType, int] = {
    WINDOW_STRATEGY_RANDOM_ACTIVE: 80,
    WINDOW_STRATEGY_NON_ACTIVATING: 80,
}
"""Windows that a language model rates: ten calls."""

_LEFT_OUT = "rated as partly expressing it"


@dataclass(frozen=True)
class Natural:
    """Windows at natural prevalence that have a rating.

    Attributes:
        windows: n of them.
        weights: how many windows of the population each stands for, shape [n].
        shares: largest activation of each as a share of the reference maximum, shape [n].
        ratings: 0, 1 or 2, shape [n].
        failed: windows without one.
    """

    windows: Sequence[Window]
    weights: Floats
    shares: Floats
    ratings: Ints
    failed: int

    def estimate(self, separation: Separation, ratings: Ints, seed: int | None = None) -> Estimate:
        """What ratings [n] of the windows say, with an interval where a seed is given."""
        kept = np.flatnonzero(ratings != PARTLY)
        documents = [self.windows[i].document for i in kept.tolist()]
        bootstrap = None if seed is None else ClusterBootstrap(documents, seed)
        concept = ratings[kept] == CLEARLY
        return separate(separation, self.shares[kept], concept, self.weights[kept], bootstrap)

    def rated_by(self, predict: Predict) -> Ints:
        """The ratings of a trivial explanation, shape [n]."""
        return np.array([rating_of(float(predict(w).max())) for w in self.windows], np.int64)

    @property
    def counts(self) -> Counts:
        """Measured truth of the windows that are of a class."""
        classed = self.ratings != PARTLY
        active = int(np.sum(self.shares[classed] >= baselines.ACTIVE_SHARE))
        return Counts(active, int(classed.sum()) - active, self.failed)


def plan_ratings(request: PlanScoreRequest) -> PlanScoreResponse:
    """One RATE item per window, by name, so that the order shows nothing."""
    if unscorable(request):
        return PlanScoreResponse()
    drawn = _drawn(evidence_of(request), request.options.judge, request.options.seed)
    ordered = sorted((w.window for w in drawn), key=lambda w: w.name)
    return PlanScoreResponse(judge_items=[rate_item(w) for w in ordered])


def score_ratings(
    method: ScoringMethod, request: ScoreRequest, wanted: Mapping[str, Separation]
) -> MethodResult:
    """Some separations by metric, each with the four baselines on the same windows."""
    if reason := unscorable(request):
        return nothing_scored(method, request, reason, SPLIT_HELDOUT)
    evidence, seed = evidence_of(request), request.options.seed
    drawn = _drawn(evidence, request.options.judge, seed)
    natural, failed = _read(evidence, drawn, Predictions(request.predictions))
    trivial = baselines.fit(evidence, other_feature_pattern(request))
    others = {b.name: natural.rated_by(b.predict) for b in trivial if b.predict is not None}
    measured = {
        metric: Measured(
            natural.estimate(separation, natural.ratings, seed),
            natural.counts,
            {
                b.name: natural.estimate(separation, others[b.name])
                if b.name in others
                else undefined(b.undefined_reason)
                for b in trivial
            },
        )
        for metric, separation in wanted.items()
    }
    return result(method, request, measured, [*_rows(natural), *failed], SPLIT_HELDOUT)


def _drawn(evidence: Evidence, judge: str, seed: int) -> list[WeightedWindow]:
    limits = LLM_LIMITS if judge == LLM_JUDGE else {}
    return [
        window
        for strategy in LLM_LIMITS
        for window in thinned(evidence.windows(SPLIT_HELDOUT, strategy), limits.get(strategy), seed)
    ]


def _read(
    evidence: Evidence, drawn: Sequence[WeightedWindow], predictions: Predictions
) -> tuple[Natural, list[ScoreRow]]:
    """The windows with a rating, and rows of those without."""
    said = [predictions.rating(w.window.name) for w in drawn]
    answered = [i for i, rating in enumerate(said) if rating is not None]
    natural = Natural(
        windows=[drawn[i].window for i in answered],
        weights=weights_of_answered(drawn, answered),
        shares=np.array([_share(evidence, drawn[i].window) for i in answered], np.float64),
        ratings=np.array([said[i] for i in answered], np.int64),
        failed=len(drawn) - len(answered),
    )
    return natural, [
        ScoreRow(
            item=w.window.name,
            measured=_share(evidence, w.window),
            weight=w.weight,
            excluded_reason=UNPREDICTED,
        )
        for w, rating in zip(drawn, said, strict=True)
        if rating is None
    ]


def _share(evidence: Evidence, window: Window) -> float:
    return float(evidence.shares(window).max())


def _rows(natural: Natural) -> list[ScoreRow]:
    """One row per rated window; `predicted` is half of its rating."""
    columns = zip(natural.windows, natural.weights, natural.shares, natural.ratings, strict=True)
    return [
        ScoreRow(
            item=window.name,
            predicted=float(rating) / CLEARLY,
            measured=float(share),
            weight=float(weight),
            excluded_reason=_LEFT_OUT if rating == PARTLY else "",
        )
        for window, weight, share, rating in columns
    ]
