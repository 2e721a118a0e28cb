"""Clarity (FADE, arXiv 2502.16994): do texts that are written of what is explained activate
the feature more than natural text does?

20 texts, written from the explanation alone, against all HELDOUT windows at natural
prevalence: the samples of the corpus method with its weights. Nobody rates the windows: those
that express the concept too count against it, as published.

- `clarity`: Gini, 2 AUROC - 1, of the largest activation, texts against windows; below 0
  where natural text activates more.
- `clarity_fade`: its absolute value, as published: a feature that the concept suppresses
  scores like one that it excites.

As published, nobody verifies what a language model wrote; texts composed from a pattern do
not count (n_invalid) where the tokenizer cut them into tokens that the pattern does not
match. Interval: bootstrap over texts and documents.

An explanation that lost half of its parts scores as before: the rest of it is written as
clearly.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import numpy as np

from saexplain.common.v1.score_pb2 import MethodResult
from saexplain.common.v1.window_pb2 import (
    SPLIT_HELDOUT,
    WINDOW_STRATEGY_NON_ACTIVATING,
    WINDOW_STRATEGY_RANDOM_ACTIVE,
)
from saexplain.scorer.v1.scorer_pb2 import (
    Method,
    PlanScoreRequest,
    PlanScoreResponse,
    ScoreRequest,
)
from services.scorer import baselines
from services.scorer.evidence import Evidence, max_activations, selection, weighted
from services.scorer.methods.base import (
    JUDGES,
    PATTERN_JUDGE,
    Writer,
    evidence_of,
    other_feature_pattern,
    unscorable,
)
from services.scorer.results import Counts, Measured, nothing_scored, result
from services.scorer.statistics.estimate import Estimate, Floats, undefined
from services.scorer.statistics.intervals import ClusterBootstrap
from services.scorer.statistics.separation import Separation, folded_gini, gini, separate
from services.scorer.texts import MeasuredTexts, TextGroup, baseline_texts

TEXTS = 20
"""Texts written."""

BASELINE_TEXTS = 10
"""Texts of each baseline."""

_WANTED = {"clarity": gini, "clarity_fade": folded_gini}
_NOTHING_WRITTEN = "no text was written and measured"


@dataclass(frozen=True)
class _Natural:
    """HELDOUT windows: largest shares [n], weights [n] and the document of each."""

    shares: Floats
    weights: Floats
    documents: list[str]


class Clarity:
    """FADE's clarity, signed and folded."""

    declaration = Method(
        name="clarity",
        version="1",
        description="Writes texts of the concept and ranks them among natural text.",
        selections=(
            selection(SPLIT_HELDOUT, WINDOW_STRATEGY_RANDOM_ACTIVE, 300),
            selection(SPLIT_HELDOUT, WINDOW_STRATEGY_NON_ACTIVATING, 500),
            *baselines.SELECTIONS,
        ),
        metrics=tuple(_WANTED),
        writes_texts=True,
        judges=JUDGES,
    )
    insensitive = frozenset(declaration.metrics)

    async def plan(self, request: PlanScoreRequest, writer: Writer) -> PlanScoreResponse:
        """Texts of the explanation and of each baseline; nothing to judge."""
        if unscorable(request):
            return PlanScoreResponse()
        texts, usage = await writer.write(request, TEXTS, 0)
        texts += await asyncio.to_thread(baseline_texts, request, BASELINE_TEXTS, 0)
        return PlanScoreResponse(texts=texts, usage=usage)

    def score(self, request: ScoreRequest) -> MethodResult:
        """Both with the four baselines."""
        if reason := unscorable(request):
            return nothing_scored(self, request, reason, SPLIT_HELDOUT)
        evidence, texts = evidence_of(request), MeasuredTexts(request)
        natural = _natural(evidence)
        by_pattern = request.options.judge == PATTERN_JUDGE
        own = texts.by_judge("positive.") if by_pattern else texts.unverified("positive.")
        trivial = baselines.fit(evidence, other_feature_pattern(request))
        others = {b.name: texts.of_baseline(b, "positive.") for b in trivial}
        seed = request.options.seed
        measured = {
            metric: Measured(
                _separated(separation, own, natural, seed),
                _counts(own, natural),
                {name: _separated(separation, g, natural, None) for name, g in others.items()},
            )
            for metric, separation in _WANTED.items()
        }
        rows = [*own.rows, *(r for g in others.values() for r in g.rows)]
        return result(self, request, measured, rows, SPLIT_HELDOUT)


def _natural(evidence: Evidence) -> _Natural:
    sample = weighted(
        evidence.windows(
            SPLIT_HELDOUT, WINDOW_STRATEGY_RANDOM_ACTIVE, WINDOW_STRATEGY_NON_ACTIVATING
        )
    )
    return _Natural(
        max_activations([w.window for w in sample]) / evidence.reference_max,
        np.array([w.weight for w in sample], np.float64),
        [w.window.document for w in sample],
    )


def _separated(
    separation: Separation, texts: TextGroup, natural: _Natural, seed: int | None
) -> Estimate:
    if texts.undefined_reason or not texts.valid:
        return undefined(texts.undefined_reason or _NOTHING_WRITTEN)
    written = texts.shares
    # Texts are clusters of their own; no document is called like them.
    clusters = [f"\n{i}" for i in range(written.size)] + natural.documents
    return separate(
        separation,
        np.concatenate([written, natural.shares]),
        np.repeat([True, False], [written.size, natural.shares.size]),
        np.concatenate([np.ones(written.size), natural.weights]),
        None if seed is None else ClusterBootstrap(clusters, seed),
    )


def _counts(texts: TextGroup, natural: _Natural) -> Counts:
    shares = np.concatenate([texts.shares, natural.shares])
    active = int(np.sum(shares >= baselines.ACTIVE_SHARE))
    return Counts(active, len(shares) - active, texts.unmeasured, texts.invalid)
