"""Coverage, boundary and input (DAFI, 2026): do texts that the explanation claims activate
the feature, and do near misses leave it silent?

A writer that sees only the explanation writes 20 positives and 20 boundaries; a verifier
that sees only text and explanation says in or out. Texts where it disagrees with what they
were written for are n_invalid; nothing is retried on its outcome.

- `coverage` (Act): share of positives with a >= 0.5 of the reference maximum.
- `boundary` (Bnd): share of boundaries with a < 0.5 of it.
- `boundary_tenth`: share of boundaries with a < 0.1 of it, that is SILENT.
- `input`: harmonic mean of coverage and boundary of this feature. Over features there are
  two: the harmonic mean of the mean coverage and the mean boundary (DAFI's headline,
  `derived.harmonic_of_means`), and the mean of this metric.
- `corpus_recall`: share of active HELDOUT windows predicted active, beside them because
  texts written from an explanation say nothing of what it leaves out.
- `ceiling`: share of EXPLAIN exemplars, cut to +-5 tokens around the peak and encoded
  again, that are still ACTIVE: what short texts can reach at all.

Intervals: Wilson; for `input` bootstrap over texts, for `corpus_recall` over documents.
Every one of these stays as it is when half of an explanation is dropped, or when an
unrelated part is added (`corpus_recall`, `ceiling`): all are flagged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import numpy as np

from saexplain.common.v1.score_pb2 import MethodResult, ScoreRow
from saexplain.common.v1.window_pb2 import (
    SPLIT_EXPLAIN,
    SPLIT_HELDOUT,
    SPLIT_UNSPECIFIED,
    WINDOW_STRATEGY_RANDOM_ACTIVE,
    WINDOW_STRATEGY_TOP,
    Window,
)
from saexplain.scorer.v1.scorer_pb2 import (
    Method,
    PlanScoreRequest,
    PlanScoreResponse,
    ScoreRequest,
    WrittenText,
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
from services.scorer.methods.items import predict_item, verify_item
from services.scorer.methods.predictive import cut
from services.scorer.methods.sample import Sample, gather
from services.scorer.predictions import Predictions
from services.scorer.results import Baselines, Counts, Measured, nothing_scored, result
from services.scorer.statistics.derived import harmonic
from services.scorer.statistics.estimate import Bools, Estimate, Floats, defined, undefined
from services.scorer.statistics.intervals import ClusterBootstrap, wilson
from services.scorer.texts import MeasuredTexts, TextGroup, baseline_texts

POSITIVES = BOUNDARIES = 20
BASELINE_TEXTS = 10
"""Positives and boundaries of each baseline."""

HALF, TENTH = 0.5, 0.1
_RECALL_LLM_LIMIT = 48
_NO_POSITIVES = "no positive was written, measured and found valid"
_NO_BOUNDARIES = "no boundary was written, measured and found valid"


class Input:
    """DAFI's Act, Bnd and their harmonic mean, with corpus recall and ceiling beside."""

    declaration = Method(
        name="input",
        version="2",
        description="Writes texts that should and should just not activate, and counts.",
        selections=(
            selection(SPLIT_HELDOUT, WINDOW_STRATEGY_RANDOM_ACTIVE, 300),
            *baselines.SELECTIONS,
        ),
        metrics=("input", "coverage", "boundary", "boundary_tenth", "corpus_recall", "ceiling"),
        writes_texts=True,
        by_default=True,
        judges=JUDGES,
    )
    insensitive = frozenset(declaration.metrics)

    async def plan(self, request: PlanScoreRequest, writer: Writer) -> PlanScoreResponse:
        """The texts of the explanation, of the baselines and of the ceiling; items that
        verify the first (language model only) and predict active HELDOUT windows."""
        if unscorable(request):
            return PlanScoreResponse()
        evidence, options = evidence_of(request), request.options
        own, usage = await writer.write(request, POSITIVES, BOUNDARIES)
        trivial = await asyncio.to_thread(baseline_texts, request, BASELINE_TEXTS, BASELINE_TEXTS)
        texts = [*own, *trivial, *_ceiling_texts(evidence)]
        items = [verify_item(t) for t in own] if options.judge == LLM_JUDGE else []
        windows = [w.window for w in _recall_windows(evidence, options.judge, options.seed)]
        items += [predict_item(w) for w in sorted(windows, key=lambda w: w.name)]
        return PlanScoreResponse(texts=texts, judge_items=items, usage=usage)

    def score(self, request: ScoreRequest) -> MethodResult:
        """All metrics with the four baselines."""
        if reason := unscorable(request):
            return nothing_scored(self, request, reason, SPLIT_UNSPECIFIED)
        evidence, texts = evidence_of(request), MeasuredTexts(request)
        trivial = baselines.fit(evidence, other_feature_pattern(request))
        own = Sides(texts.by_judge("positive."), texts.by_judge("boundary."))
        others = {
            b.name: Sides(texts.of_baseline(b, "positive."), texts.of_baseline(b, "boundary."))
            for b in trivial
        }
        ceiling = texts.unverified("ceiling.")
        measured = {
            metric: Measured(estimate, own.counts(metric), _of_others(others, metric))
            for metric, estimate in own.estimates(request.options.seed).items()
        }
        recall, windows = _corpus_recall(request, evidence, trivial)
        measured |= {"corpus_recall": recall, "ceiling": _ceiling(ceiling, trivial)}
        groups = [own, *others.values()]
        rows = [r for s in groups for g in (s.positives, s.boundaries) for r in g.rows]
        return result(self, request, measured, [*rows, *ceiling.rows, *windows], SPLIT_UNSPECIFIED)


class Sides:
    """Positives and boundaries of one explanation."""

    def __init__(self, positives: TextGroup, boundaries: TextGroup) -> None:
        self.positives = positives
        self.boundaries = boundaries

    @property
    def undefined_reason(self) -> str:
        """Why nothing was written; empty where it was."""
        return self.positives.undefined_reason

    def estimates(self, seed: int | None) -> dict[str, Estimate]:
        """The four metrics; `input` with an interval where a seed is given."""
        high, low = self.positives.clear_of(HALF), self.boundaries.clear_of(HALF)
        coverage = _share(high >= HALF, _NO_POSITIVES)
        boundary = _share(low < HALF, _NO_BOUNDARIES)
        both = harmonic(coverage, boundary)
        if seed is not None and both.value is not None:
            both = _with_interval(both, high >= HALF, low < HALF, seed)
        tenth = _share(self.boundaries.clear_of(TENTH) < TENTH, _NO_BOUNDARIES)
        return {"input": both, "coverage": coverage, "boundary": boundary, "boundary_tenth": tenth}

    def counts(self, metric: str) -> Counts:
        """Measured truth of the texts that a metric counts."""
        groups = {
            "input": (self.positives, self.boundaries),
            "coverage": (self.positives,),
        }.get(metric, (self.boundaries,))
        threshold = TENTH if metric == "boundary_tenth" else HALF
        shares = np.concatenate([g.clear_of(threshold) for g in groups])
        active = int(np.sum(shares >= threshold))
        return Counts(
            active,
            len(shares) - active,
            sum(g.unmeasured for g in groups),
            sum(g.invalid for g in groups),
        )


def _share(hits: Bools, reason: str) -> Estimate:
    if not hits.size:
        return undefined(reason)
    return defined(float(hits.mean())).within(wilson(int(hits.sum()), hits.size))


def _with_interval(both: Estimate, covered: Bools, rejected: Bools, seed: int) -> Estimate:
    """Resamples the texts of both sides together."""
    hits = np.concatenate([covered, rejected]).astype(np.float64)
    side = np.repeat([0.0, 1.0], [covered.size, rejected.size])
    bootstrap = ClusterBootstrap([f"{i:04d}" for i in range(hits.size)], seed)
    items = np.stack([hits * (1 - side), 1 - side, hits * side, side], axis=1)
    sums = bootstrap.sums(items)
    with np.errstate(divide="ignore", invalid="ignore"):
        act, bnd = sums[:, 0] / sums[:, 1], sums[:, 2] / sums[:, 3]
        values: Floats = np.where(act + bnd > 0, 2 * act * bnd / (act + bnd), 0.0)
    values[~(np.isfinite(act) & np.isfinite(bnd))] = np.nan
    return both.within(bootstrap.bounds(values, (0.0, 1.0)))


def _of_others(others: Mapping[str, Sides], metric: str) -> Baselines:
    return {
        name: undefined(sides.undefined_reason)
        if sides.undefined_reason
        else sides.estimates(None)[metric]
        for name, sides in others.items()
    }


def _ceiling_texts(evidence: Evidence) -> list[WrittenText]:
    texts = []
    for i, window in enumerate(evidence.windows(SPLIT_EXPLAIN, WINDOW_STRATEGY_TOP)):
        short = cut(window, int(np.argmax(window.activations)))
        # A cut through a character leaves bytes that are no text: those are dropped.
        text = b"".join(short.tokens.token_bytes).decode(errors="ignore")
        if text:
            texts.append(WrittenText(id=f"ceiling.{i}", text=text, intended_active=True))
    return texts


def _ceiling(group: TextGroup, trivial: Sequence[baselines.Predictor]) -> Measured:
    shares = group.clear_of(HALF)
    active = int(np.sum(shares >= HALF))
    none = undefined("the ceiling does not depend on an explanation")
    return Measured(
        _share(shares >= HALF, "no exemplar was measured"),
        Counts(active, len(shares) - active, group.unmeasured, group.invalid),
        {b.name: none for b in trivial},
    )


def _recall_windows(evidence: Evidence, judge: str, seed: int) -> list[WeightedWindow]:
    limit = _RECALL_LLM_LIMIT if judge == LLM_JUDGE else None
    return thinned(evidence.windows(SPLIT_HELDOUT, WINDOW_STRATEGY_RANDOM_ACTIVE), limit, seed)


def _corpus_recall(
    request: ScoreRequest, evidence: Evidence, trivial: Sequence[baselines.Predictor]
) -> tuple[Measured, list[ScoreRow]]:
    predictions = Predictions(request.predictions)

    def judged(window: Window) -> Floats | None:
        return predictions.shares(window.name, len(window.tokens.token_ids))

    seed = request.options.seed
    drawn = _recall_windows(evidence, request.options.judge, seed)
    sample, failed = gather(evidence, drawn, judged)
    active = int(sample.active.sum())
    counts = Counts(active, len(sample.windows) - active, sample.failed)
    value = quantities.RECALL.estimate(sample, ClusterBootstrap(sample.documents, seed))
    others = {b.name: _recall_of(b, sample) for b in trivial}
    return Measured(value, counts, others), sample.rows("only in corpus_recall") + failed


def _recall_of(predictor: baselines.Predictor, sample: Sample) -> Estimate:
    if predictor.predict is None:
        return undefined(predictor.undefined_reason)
    return quantities.RECALL.value(sample.predicted_by(predictor.predict))
