"""The ladder of negatives (method, section 5): what share of the windows in which the feature
is silent does the explanation leave alone, from far to near?

- `rejection_random`: windows in which the feature is 0 everywhere.
- `rejection_lexical`: they share telling tokens with the exemplars, not those of the peaks.
- `rejection_neighbor`: a decoder neighbour of the feature is active in them.
- `rejection_same_token`: they hold a token at which the feature peaks.
- `rejection_minimal_pair`: active windows with one token changed, measured to be silent
  (see `pairs`).
- `coverage`: active windows that are predicted active: "never" rejects everything.

Rejected is a window whose largest predicted share is below one half. Each rung is a number of
its own; they are never pooled. Windows of a rung are matched with active HELDOUT windows by
source, then kind of text, then length, and count once each. A changed window that is no
minimal pair is n_invalid. Intervals: bootstrap over documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from saexplain.common.v1.score_pb2 import MethodResult, ScoreRow
from saexplain.common.v1.window_pb2 import (
    NEGATIVE_RUNG_LEXICAL,
    NEGATIVE_RUNG_NEIGHBOR,
    NEGATIVE_RUNG_SAME_TOKEN,
    SPLIT_HELDOUT,
    WINDOW_STRATEGY_NEAR_MISS,
    WINDOW_STRATEGY_NON_ACTIVATING,
    WINDOW_STRATEGY_RANDOM_ACTIVE,
    Window,
    WindowSelection,
)
from saexplain.scorer.v1.scorer_pb2 import (
    JudgeItem,
    Method,
    PlanScoreRequest,
    PlanScoreResponse,
    ScoreRequest,
)
from services.scorer import baselines
from services.scorer.evidence import Evidence, WeightedWindow, selection
from services.scorer.methods import quantities
from services.scorer.methods.base import (
    JUDGES,
    Writer,
    evidence_of,
    other_feature_pattern,
    unscorable,
)
from services.scorer.methods.items import predict_item
from services.scorer.methods.pairs import Pair, make_pairs, measured_share
from services.scorer.methods.quantities import Quantity
from services.scorer.methods.sample import UNPREDICTED, Sample, gather
from services.scorer.predictions import Predictions
from services.scorer.results import Counts, Measured, nothing_scored, result
from services.scorer.statistics.estimate import Floats, undefined
from services.scorer.statistics.intervals import ClusterBootstrap
from services.scorer.texts import MeasuredTexts

PER_RUNG = 30
PAIRS = 20

_RUNGS = {
    "rejection_lexical": NEGATIVE_RUNG_LEXICAL,
    "rejection_neighbor": NEGATIVE_RUNG_NEIGHBOR,
    "rejection_same_token": NEGATIVE_RUNG_SAME_TOKEN,
}
_RANDOM, _PAIR, _COVERAGE = "rejection_random", "rejection_minimal_pair", "coverage"


class Ladder:
    """Rejection per rung of negatives, with coverage beside."""

    declaration = Method(
        name="ladder",
        version="1",
        description="Asks what the explanation leaves alone, rung by rung of near misses.",
        selections=(
            selection(SPLIT_HELDOUT, WINDOW_STRATEGY_RANDOM_ACTIVE, 300),
            selection(SPLIT_HELDOUT, WINDOW_STRATEGY_NON_ACTIVATING, 500),
            WindowSelection(
                split=SPLIT_HELDOUT,
                strategy=WINDOW_STRATEGY_NEAR_MISS,
                count=3 * PER_RUNG,
                rungs=tuple(_RUNGS.values()),
            ),
            *baselines.SELECTIONS,
        ),
        metrics=(_RANDOM, *_RUNGS, _PAIR, _COVERAGE),
        judges=JUDGES,
    )
    # What is left of half an explanation rejects as much, and what was added covers more.
    insensitive = frozenset(declaration.metrics)

    async def plan(self, request: PlanScoreRequest, writer: Writer) -> PlanScoreResponse:
        """One PREDICT item per window and twin; the texts of the pairs."""
        if unscorable(request):
            return PlanScoreResponse()
        evidence, seed = evidence_of(request), request.options.seed
        windows = {w.name: w for ws in _drawn(evidence, seed).values() for w in ws}
        pairs = _pairs(evidence, seed)
        return PlanScoreResponse(
            judge_items=[
                *(predict_item(windows[name]) for name in sorted(windows)),
                *map(_twin_item, pairs),
            ],
            texts=[text for pair in pairs for text in pair.texts()],
        )

    def score(self, request: ScoreRequest) -> MethodResult:
        """Every rung with the four baselines."""
        if reason := unscorable(request):
            return nothing_scored(self, request, reason, SPLIT_HELDOUT)
        evidence, seed = evidence_of(request), request.options.seed
        predictions = Predictions(request.predictions)
        trivial = baselines.fit(evidence, other_feature_pattern(request))

        def judged(window: Window) -> Floats | None:
            return predictions.shares(window.name, len(window.tokens.token_ids))

        measured: dict[str, Measured] = {}
        rows: dict[str, ScoreRow] = {}
        for metric, windows in _drawn(evidence, seed).items():
            sample, failed = gather(evidence, [WeightedWindow(w, 1.0) for w in windows], judged)
            measured[metric] = _measure(metric, sample, 0, trivial, seed)
            # A window may stand for several numbers; it has one row.
            rows |= {row.item: row for row in (*sample.rows(), *failed)}
        twins, invalid, excluded = _silent_twins(request, _pairs(evidence, seed), predictions)
        measured[_PAIR] = _measure(_PAIR, twins, invalid, trivial, seed)
        return result(
            self, request, measured, [*rows.values(), *twins.rows(), *excluded], SPLIT_HELDOUT
        )


def _drawn(evidence: Evidence, seed: int) -> dict[str, list[Window]]:
    """The windows of every number but the pairs'; the same for a plan and its score."""
    active = _active(evidence, seed)
    near = evidence.windows(SPLIT_HELDOUT, WINDOW_STRATEGY_NEAR_MISS)
    silent = evidence.windows(SPLIT_HELDOUT, WINDOW_STRATEGY_NON_ACTIVATING)
    rungs = {m: [w for w in near if w.negative_rung == rung] for m, rung in _RUNGS.items()}
    candidates = {_RANDOM: silent, **rungs}
    drawn = {m: matched(active, found, PER_RUNG, seed) for m, found in candidates.items()}
    return {**drawn, _COVERAGE: active[:PER_RUNG]}


def _active(evidence: Evidence, seed: int) -> list[Window]:
    """ACTIVE windows in random order."""
    firing = evidence.windows(SPLIT_HELDOUT, WINDOW_STRATEGY_RANDOM_ACTIVE)
    strong = [w for w in firing if evidence.shares(w).max() >= baselines.ACTIVE_SHARE]
    ordered = sorted(strong, key=lambda w: w.name)
    order = np.random.default_rng(seed % 2**64).permutation(len(ordered))
    return [ordered[i] for i in order.tolist()]


def matched(
    active: Sequence[Window], candidates: Sequence[Window], limit: int, seed: int
) -> list[Window]:
    """At most `limit` candidates, each the nearest to one of the active windows in turn:
    same source before same kind before length, then by lot. All where there are no more."""
    if len(candidates) <= limit or not active:
        return list(candidates)[:limit]
    ordered = sorted(candidates, key=lambda w: w.name)
    order = np.random.default_rng(seed % 2**64).permutation(len(ordered))
    left = [ordered[i] for i in order.tolist()]
    chosen = []
    for number in range(limit):
        wanted = active[number % len(active)]
        place = min(range(len(left)), key=lambda i: _distance(wanted, left[i]))
        chosen.append(left.pop(place))
    return chosen


def _distance(wanted: Window, other: Window) -> tuple[bool, bool, int]:
    lengths = len(wanted.tokens.token_ids), len(other.tokens.token_ids)
    source = not wanted.source or wanted.source != other.source
    return source, wanted.kind != other.kind, abs(lengths[0] - lengths[1])


def _pairs(evidence: Evidence, seed: int) -> list[Pair]:
    silent = evidence.windows(SPLIT_HELDOUT, WINDOW_STRATEGY_NON_ACTIVATING)
    return make_pairs(_active(evidence, seed)[:PAIRS], silent, seed)


def _twin_item(pair: Pair) -> JudgeItem:
    item = predict_item(pair.twin)
    item.id = pair.id
    return item


def _silent_twins(
    request: ScoreRequest, pairs: Sequence[Pair], predictions: Predictions
) -> tuple[Sample, int, list[ScoreRow]]:
    """The twins that are negatives, how many are none, and rows of all others."""
    texts = MeasuredTexts(request)
    windows, predicted, shares, excluded = [], [], [], []
    failed = invalid = 0
    for pair in pairs:
        share = measured_share(pair, texts)
        said = predictions.shares(pair.id, len(pair.twin.tokens.token_ids))
        if isinstance(share, float) and said is not None:
            twin = Window()
            twin.CopyFrom(pair.twin)
            twin.name = pair.id
            windows.append(twin)
            predicted.append(said)
            shares.append(np.array([share]))
            continue
        reason = share if isinstance(share, str) else UNPREDICTED
        failed, invalid = failed + (reason is UNPREDICTED), invalid + (reason is not UNPREDICTED)
        excluded.append(ScoreRow(item=pair.id, weight=1.0, excluded_reason=reason))
    ones = np.ones(len(windows))
    quintile = np.zeros(len(windows), np.int64)
    return Sample(windows, ones, predicted, shares, quintile, failed), invalid, excluded


def _measure(
    metric: str,
    sample: Sample,
    invalid: int,
    trivial: Sequence[baselines.Predictor],
    seed: int,
) -> Measured:
    quantity: Quantity = quantities.COVERAGE if metric == _COVERAGE else quantities.REJECTION
    active = int(sample.active.sum())
    others: Mapping[str, Sample] = {
        b.name: sample.predicted_by(b.predict) for b in trivial if b.predict is not None
    }
    return Measured(
        quantity.estimate(sample, ClusterBootstrap(sample.documents, seed)),
        Counts(active, len(sample.windows) - active, sample.failed, invalid),
        {
            b.name: quantity.value(others[b.name])
            if b.name in others
            else undefined(b.undefined_reason)
            for b in trivial
        },
    )
