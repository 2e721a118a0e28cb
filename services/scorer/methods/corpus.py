"""The primary score: how well an explanation predicts the feature on held-out text, at
natural prevalence (method, section 5).

The sample is HELDOUT RANDOM_ACTIVE and NON_ACTIVATING windows, which together stand for
all windows of the split; each counts 1 / (inclusion probability) times. Where some of a
strategy's windows have no prediction, its others count for them.

- `f1`, `precision`, `recall`, `average_precision`: the unit is the window. Truth: its
  largest activation is at least half of the reference maximum. Prediction: its largest
  predicted share is at least one half; average precision ranks by that share.
- `pearson`: the unit is the token, all scored tokens of the sampled windows, each with
  its window's weight; predicted share against measured share.
- `coverage_q1` to `coverage_q5`: the windows in which the feature fires, in fifths of
  equal weight by their maximum, 1 the weakest: the share predicted active.
- `pearson_q1` to `pearson_q5`: as `pearson`, over one fifth and all silent windows.
- `near_miss_rejection`, `top_coverage`: the share of NEAR_MISS windows not predicted
  active, and of TOP windows predicted active; apart from the sample.

Intervals: bootstrap over documents. The language model judges a thinned sample of at most
`LLM_LIMITS` windows, drawn by seed, whose weights grow accordingly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from saexplain.common.v1.score_pb2 import MethodResult
from saexplain.common.v1.window_pb2 import (
    SPLIT_HELDOUT,
    WINDOW_STRATEGY_NEAR_MISS,
    WINDOW_STRATEGY_NON_ACTIVATING,
    WINDOW_STRATEGY_RANDOM_ACTIVE,
    WINDOW_STRATEGY_TOP,
    Window,
    WindowStrategy,
)
from saexplain.scorer.v1.scorer_pb2 import (
    Method,
    PlanScoreRequest,
    PlanScoreResponse,
    ScoreRequest,
)
from services.scorer import baselines
from services.scorer.evidence import Evidence, WeightedWindow, selection, thinned
from services.scorer.methods import quantities
from services.scorer.methods.base import (
    JUDGES,
    LLM_JUDGE,
    Writer,
    evidence_of,
    other_feature_pattern,
    unscorable,
)
from services.scorer.methods.items import predict_item
from services.scorer.methods.quantities import Quantity
from services.scorer.methods.sample import QUINTILES, Sample, gather
from services.scorer.predictions import Predictions
from services.scorer.results import Counts, Measured, nothing_scored, result
from services.scorer.statistics.estimate import Estimate, Floats, undefined
from services.scorer.statistics.intervals import ClusterBootstrap

ACTIVE, SILENT = WINDOW_STRATEGY_RANDOM_ACTIVE, WINDOW_STRATEGY_NON_ACTIVATING
POOLED = (ACTIVE, SILENT)

LLM_LIMITS: Mapping[WindowStrategy.ValueType, int] = {
    WINDOW_STRATEGY_RANDOM_ACTIVE: 96,
    WINDOW_STRATEGY_NON_ACTIVATING: 128,
    WINDOW_STRATEGY_NEAR_MISS: 24,
    WINDOW_STRATEGY_TOP: 8,
}
"""Windows that a language model judges: four calls of 64 items."""

_MAIN: Mapping[str, Quantity] = {
    "f1": quantities.F1,
    "pearson": quantities.PEARSON,
    "precision": quantities.PRECISION,
    "recall": quantities.RECALL,
    "average_precision": quantities.AVERAGE_PRECISION,
}
_FIFTHS = range(1, QUINTILES + 1)
_APART: Mapping[str, tuple[WindowStrategy.ValueType, Quantity]] = {
    "near_miss_rejection": (WINDOW_STRATEGY_NEAR_MISS, quantities.REJECTION),
    "top_coverage": (WINDOW_STRATEGY_TOP, quantities.COVERAGE),
}


class Corpus:
    """Corpus F1 and Pearson at natural prevalence on HELDOUT."""

    declaration = Method(
        name="corpus",
        version="2",
        description="Predicts the feature on held-out text, at natural prevalence.",
        selections=(
            selection(SPLIT_HELDOUT, ACTIVE, 300),
            selection(SPLIT_HELDOUT, SILENT, 500),
            selection(SPLIT_HELDOUT, WINDOW_STRATEGY_NEAR_MISS, 60),
            selection(SPLIT_HELDOUT, WINDOW_STRATEGY_TOP, 20),
            *baselines.SELECTIONS,
        ),
        metrics=(
            *_MAIN,
            *(f"coverage_q{q}" for q in _FIFTHS),
            *(f"pearson_q{q}" for q in _FIFTHS),
            *_APART,
        ),
        by_default=True,
        judges=JUDGES,
    )
    # An explanation that lost a part stays precise; one that gained an unrelated part
    # finds no fewer active windows.
    insensitive = frozenset({"precision", "recall", *_APART, *(f"coverage_q{q}" for q in _FIFTHS)})

    async def plan(self, request: PlanScoreRequest, writer: Writer) -> PlanScoreResponse:
        """One PREDICT item per judged window; no texts."""
        if unscorable(request):
            return PlanScoreResponse()
        drawn = _drawn(evidence_of(request), request.options.judge, request.options.seed)
        unique = {w.window.name: w.window for items in drawn.values() for w in items}
        # By name, so that the order shows neither the strategy nor the truth.
        return PlanScoreResponse(judge_items=[predict_item(unique[n]) for n in sorted(unique)])

    def score(self, request: ScoreRequest) -> MethodResult:
        """All metrics, each with the four baselines on the windows that it counts."""
        if reason := unscorable(request):
            return nothing_scored(self, request, reason, SPLIT_HELDOUT)
        evidence, seed = evidence_of(request), request.options.seed
        drawn = _drawn(evidence, request.options.judge, seed)
        predictions = Predictions(request.predictions)

        def predict(window: Window) -> Floats | None:
            return predictions.shares(window.name, len(window.tokens.token_ids))

        trivial = baselines.fit(evidence, other_feature_pattern(request))
        sample, unpredicted = gather(evidence, [w for s in POOLED for w in drawn[s]], predict)
        measured = _pooled(sample, trivial, _uncovered(evidence, sample), seed)
        rows = sample.rows() + unpredicted
        for metric, (strategy, quantity) in _APART.items():
            apart, _ = gather(evidence, drawn[strategy], predict)
            known = {row.item for row in rows}
            rows += [r for r in apart.rows(f"only in {metric}") if r.item not in known]
            measured |= _measure(apart, _others(apart, trivial), {metric: quantity}, seed)
        return result(self, request, measured, rows, SPLIT_HELDOUT)


def _drawn(
    evidence: Evidence, judge: str, seed: int
) -> dict[WindowStrategy.ValueType, list[WeightedWindow]]:
    """The judged windows of each strategy; the same for a plan and its score."""
    strategies = (*POOLED, *(strategy for strategy, _ in _APART.values()))
    limits = LLM_LIMITS if judge == LLM_JUDGE else {}
    return {s: thinned(evidence.windows(SPLIT_HELDOUT, s), limits.get(s), seed) for s in strategies}


def _uncovered(evidence: Evidence, sample: Sample) -> str:
    """Why the sample cannot stand for the population; empty where it can."""
    strategies = {w.strategy for w in sample.windows}
    facts = [s for s in evidence.facts.splits if s.split == SPLIT_HELDOUT]
    silent_population = sum(s.window_count - s.active_window_count for s in facts)
    if ACTIVE not in strategies:
        return "no held-out window in which the feature fires has a prediction"
    # A feature that fires in every window of the split has no silent ones to sample.
    if SILENT not in strategies and (silent_population > 0 or not facts):
        return "no held-out window in which the feature is silent has a prediction"
    return ""


def _pooled(
    sample: Sample, trivial: Sequence[baselines.Predictor], reason: str, seed: int
) -> dict[str, Measured]:
    """Every metric of the pooled sample, by fifths too."""
    groups: list[tuple[Mapping[str, Quantity], tuple[int, ...]]] = [(_MAIN, (0, *_FIFTHS))]
    for q in _FIFTHS:
        groups.append(({f"coverage_q{q}": quantities.COVERAGE}, (q,)))
        groups.append(({f"pearson_q{q}": quantities.PEARSON}, (q, 0)))
    if reason:
        empty = Measured(undefined(reason), Counts(failed=sample.failed), {})
        return {metric: empty for wanted, _ in groups for metric in wanted}
    others = _others(sample, trivial)
    measured: dict[str, Measured] = {}
    for wanted, quintiles in groups:
        mask = np.isin(sample.quintile, quintiles)
        part = {n: o.where(mask) if isinstance(o, Sample) else o for n, o in others.items()}
        measured |= _measure(sample.where(mask), part, wanted, seed)
    return measured


def _others(sample: Sample, trivial: Sequence[baselines.Predictor]) -> dict[str, Sample | Estimate]:
    """What each baseline predicts on the same windows, or why it cannot."""
    return {
        b.name: sample.predicted_by(b.predict) if b.predict else undefined(b.undefined_reason)
        for b in trivial
    }


def _measure(
    sample: Sample,
    others: Mapping[str, Sample | Estimate],
    wanted: Mapping[str, Quantity],
    seed: int,
) -> dict[str, Measured]:
    """Some quantities of one sample, with intervals and what the baselines reach on it."""
    bootstrap = ClusterBootstrap(sample.documents, seed)
    active = int(sample.active.sum())
    counts = Counts(active, len(sample.windows) - active, sample.failed)
    return {
        metric: Measured(
            quantity.estimate(sample, bootstrap),
            counts,
            {n: quantity.value(o) if isinstance(o, Sample) else o for n, o in others.items()},
        )
        for metric, quantity in wanted.items()
    }
