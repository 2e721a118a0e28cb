"""Generative accuracy (SAGE, arXiv 2511.20820): the share of texts, written from the
explanation alone, that activate the feature.

`accuracy_max` calls a text active from half of the strongest exemplar's maximum (the
paper's threshold), `accuracy_mean` from half of the mean of the ten strongest (the
published code's). Exemplars are those of the EXPLAIN split. Texts within the band of
rounding around a threshold have no verdict and count in neither direction.

As published, nobody verifies what a language model wrote. Texts composed from a pattern do
not count (n_invalid) where the tokenizer cut them into tokens that the pattern does not
match: they are not what the explanation said. Intervals: Wilson.

An explanation that lost half of its parts scores as before: the score knows only what the
explanation says, not what it leaves out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import numpy as np

from saexplain.common.v1.score_pb2 import MethodResult
from saexplain.common.v1.window_pb2 import (
    SPLIT_EXPLAIN,
    SPLIT_UNSPECIFIED,
    WINDOW_STRATEGY_TOP,
)
from saexplain.scorer.v1.scorer_pb2 import (
    Method,
    PlanScoreRequest,
    PlanScoreResponse,
    ScoreRequest,
)
from services.scorer import baselines
from services.scorer.evidence import Evidence, max_activations
from services.scorer.methods.base import (
    JUDGES,
    PATTERN_JUDGE,
    Writer,
    evidence_of,
    other_feature_pattern,
    unscorable,
)
from services.scorer.results import Counts, Measured, nothing_scored, result
from services.scorer.statistics import scale
from services.scorer.statistics.estimate import Estimate, Floats, defined, undefined
from services.scorer.statistics.intervals import wilson
from services.scorer.texts import MeasuredTexts, TextGroup, baseline_texts

TEXTS = 10
"""Texts written, as published; also from each baseline."""

NOTHING_WRITTEN = "no text was written and measured"


class Generative:
    """SAGE's generative accuracy at both thresholds."""

    declaration = Method(
        name="generative",
        version="1",
        description="Writes texts from the explanation and counts those that activate.",
        selections=baselines.SELECTIONS,
        metrics=("accuracy_max", "accuracy_mean"),
        writes_texts=True,
        by_default=True,
        judges=JUDGES,
    )
    insensitive = frozenset(declaration.metrics)

    async def plan(self, request: PlanScoreRequest, writer: Writer) -> PlanScoreResponse:
        """Ten texts of the explanation and ten of each baseline; nothing to judge."""
        if unscorable(request):
            return PlanScoreResponse()
        texts, usage = await writer.write(request, TEXTS, 0)
        texts += await asyncio.to_thread(baseline_texts, request, TEXTS, 0)
        return PlanScoreResponse(texts=texts, usage=usage)

    def score(self, request: ScoreRequest) -> MethodResult:
        """Both accuracies."""
        if reason := unscorable(request):
            return nothing_scored(self, request, reason, SPLIT_UNSPECIFIED)
        evidence, texts = evidence_of(request), MeasuredTexts(request)
        by_pattern = request.options.judge == PATTERN_JUDGE
        own = texts.by_judge("positive.") if by_pattern else texts.unverified("positive.")
        trivial = baselines.fit(evidence, other_feature_pattern(request))
        others = {b.name: texts.of_baseline(b, "positive.") for b in trivial}
        measured = {
            metric: _measure(own, others, threshold)
            for metric, threshold in _thresholds(evidence).items()
        }
        rows = [*own.rows, *(r for g in others.values() for r in g.rows)]
        return result(self, request, measured, rows, SPLIT_UNSPECIFIED)


def _measure(own: TextGroup, others: Mapping[str, TextGroup], threshold: float | None) -> Measured:
    if threshold is None:
        return Measured(undefined("there are no EXPLAIN exemplars"), Counts(), {})
    shares = own.clear_of(threshold)
    active = int(np.sum(shares >= threshold))
    counts = Counts(active, len(shares) - active, own.unmeasured, own.invalid)
    trivial = {
        name: undefined(group.undefined_reason)
        if group.undefined_reason
        else accuracy(group.clear_of(threshold), threshold)
        for name, group in others.items()
    }
    return Measured(accuracy(shares, threshold), counts, trivial)


def accuracy(shares: Floats, threshold: float) -> Estimate:
    """Share of texts at or above the threshold, with Wilson's interval; undefined for none."""
    if not shares.size:
        return undefined(NOTHING_WRITTEN)
    active = int(np.sum(shares >= threshold))
    return defined(active / shares.size).within(wilson(active, shares.size))


def _thresholds(evidence: Evidence) -> dict[str, float | None]:
    """Each metric's threshold as a share of the reference maximum."""
    maxima = max_activations(evidence.windows(SPLIT_EXPLAIN, WINDOW_STRATEGY_TOP))
    mean = scale.threshold_of_mean(maxima) / evidence.reference_max if maxima.size else None
    return {"accuracy_max": baselines.ACTIVE_SHARE, "accuracy_mean": mean}
