"""Autointerp (SAEBench, arXiv 2503.09532): of 14 shuffled windows, shown together, which
does a judge that reads the explanation say are active?

Two are the strongest of HELDOUT, two are drawn among weaker ones in proportion to the sum
of their squared activations, ten are random windows at natural prevalence. Active is a
window with an activation above 0.01 of the largest among the strongest.

- `accuracy`: share of windows said rightly, the truth measured on all 14.
- `accuracy_saebench`: as published, which takes the ten random windows for silent without
  measuring them.
- `balanced_accuracy`: mean of the shares among active and inactive windows. "None of them"
  has an accuracy of 10/14 and a balanced accuracy of one half.

A reply that cannot be used leaves all undefined, and its windows n_failed. Interval:
bootstrap over documents; with 14 windows it is wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from saexplain.common.v1.score_pb2 import MethodResult, ScoreRow
from saexplain.common.v1.window_pb2 import (
    SPLIT_HELDOUT,
    WINDOW_STRATEGY_NON_ACTIVATING,
    WINDOW_STRATEGY_RANDOM_ACTIVE,
    WINDOW_STRATEGY_TOP,
    Window,
)
from saexplain.scorer.v1.scorer_pb2 import (
    JUDGE_TASK_SELECT,
    Method,
    PlanScoreRequest,
    PlanScoreResponse,
    ScoreRequest,
)
from services.scorer import baselines
from services.scorer.evidence import Evidence, activations, max_activations, selection, weighted
from services.scorer.firing import FIRES_SHARE
from services.scorer.methods.base import (
    JUDGES,
    Writer,
    evidence_of,
    other_feature_pattern,
    unscorable,
)
from services.scorer.methods.items import group_item
from services.scorer.methods.sample import UNPREDICTED
from services.scorer.predictions import Predictions
from services.scorer.results import Counts, Measured, nothing_scored, result
from services.scorer.statistics.balanced import ratio, ratio_with_interval
from services.scorer.statistics.estimate import Bools, Estimate, Floats, defined, undefined
from services.scorer.statistics.intervals import ClusterBootstrap
from services.scorer.statistics.published.saebench import saebench_active

TOP, WEIGHTED, RANDOM = 2, 2, 10

THRESHOLD_SHARE = 0.01
"""Of the largest activation among the strongest windows; above it a window is active."""

ITEM = "windows"

_TOO_FEW = "too few held-out windows to draw the fourteen"
_NO_ANSWER = "the judge gave no usable answer"


@dataclass(frozen=True)
class Drawn:
    """The windows in the order of showing.

    Attributes:
        windows: all of them.
        active: measured truth, shape [n].
        random: which of them were drawn at natural prevalence, shape [n].
    """

    windows: Sequence[Window]
    active: Bools
    random: Bools


class Autointerp:
    """SAEBench's autointerp score."""

    declaration = Method(
        name="autointerp",
        version="1",
        description="Says which of 14 mixed windows are active.",
        selections=(
            selection(SPLIT_HELDOUT, WINDOW_STRATEGY_TOP, 20),
            selection(SPLIT_HELDOUT, WINDOW_STRATEGY_RANDOM_ACTIVE, 300),
            selection(SPLIT_HELDOUT, WINDOW_STRATEGY_NON_ACTIVATING, 500),
            *baselines.SELECTIONS,
        ),
        metrics=("accuracy", "accuracy_saebench", "balanced_accuracy"),
        judges=JUDGES,
    )
    insensitive = frozenset(declaration.metrics)

    async def plan(self, request: PlanScoreRequest, writer: Writer) -> PlanScoreResponse:
        """One SELECT item; no texts."""
        drawn = None
        if not unscorable(request):
            drawn = _drawn(evidence_of(request), request.options.seed)
        if drawn is None:
            return PlanScoreResponse()
        return PlanScoreResponse(judge_items=[group_item(ITEM, JUDGE_TASK_SELECT, drawn.windows)])

    def score(self, request: ScoreRequest) -> MethodResult:
        """All three with the four baselines."""
        evidence, seed = evidence_of(request), request.options.seed
        reason = unscorable(request)
        drawn = None if reason else _drawn(evidence, seed)
        if drawn is None:
            return nothing_scored(self, request, reason or _TOO_FEW, SPLIT_HELDOUT)
        chosen = Predictions(request.predictions).chosen(ITEM, len(drawn.windows))
        said = None if chosen is None else np.isin(np.arange(len(drawn.windows)), chosen)
        bootstrap = ClusterBootstrap([w.document for w in drawn.windows], seed)
        values = _estimates(drawn, said, bootstrap)
        others: dict[str, dict[str, Estimate]] = {}
        for b in baselines.fit(evidence, other_feature_pattern(request)):
            if b.predict is None:
                others[b.name] = dict.fromkeys(values, undefined(b.undefined_reason))
            else:
                largest = np.array([b.predict(w).max() for w in drawn.windows])
                others[b.name] = _estimates(drawn, largest >= FIRES_SHARE, None)
        active = int(drawn.active.sum())
        total = len(drawn.windows)
        counts = Counts(failed=total) if said is None else Counts(active, total - active)
        measured = {
            metric: Measured(value, counts, {n: o[metric] for n, o in others.items()})
            for metric, value in values.items()
        }
        return result(self, request, measured, _rows(evidence, drawn, said), SPLIT_HELDOUT)


def _drawn(evidence: Evidence, seed: int) -> Drawn | None:
    """The windows; None where there are too few of a kind."""
    top = evidence.windows(SPLIT_HELDOUT, WINDOW_STRATEGY_TOP)[:TOP]
    firing = evidence.windows(SPLIT_HELDOUT, WINDOW_STRATEGY_RANDOM_ACTIVE)
    silent = evidence.windows(SPLIT_HELDOUT, WINDOW_STRATEGY_NON_ACTIVATING)
    if len(top) < TOP:
        return None
    rng = np.random.default_rng(seed % 2**64)
    maxima = max_activations(top)
    # As published, nothing as strong as the strongest windows is drawn a second time.
    names = {w.name for w in top}
    weaker = [w for w in firing if max(w.activations) < maxima.min() and w.name not in names]
    squares = [i.weight * float(np.sum(activations(i.window) ** 2)) for i in weighted(weaker)]
    important = _choose(weaker, np.array(squares), WEIGHTED, rng)
    taken = names | {w.name for w in important}
    rest = [w for w in (*firing, *silent) if w.name not in taken]
    random = _choose(rest, np.array([i.weight for i in weighted(rest)]), RANDOM, rng)
    if len(important) < WEIGHTED or len(random) < RANDOM:
        return None
    windows = [*top, *important, *random]
    order = rng.permutation(len(windows)).tolist()
    shown = [windows[i] for i in order]
    threshold = THRESHOLD_SHARE * float(maxima.max())
    active = saebench_active([activations(w) for w in shown], threshold)
    return Drawn(shown, active, np.array([i >= TOP + WEIGHTED for i in order], np.bool_))


def _choose(
    windows: Sequence[Window], weights: Floats, count: int, rng: np.random.Generator
) -> list[Window]:
    """`count` windows without replacement in proportion to the weights, all where there
    are no more that weigh anything."""
    possible = np.flatnonzero(weights > 0) if len(windows) else np.zeros(0, np.int64)
    if possible.size <= count:
        return [windows[int(i)] for i in possible]
    shares = weights[possible] / weights[possible].sum()
    picked = rng.choice(possible, count, replace=False, p=shares)
    return [windows[int(i)] for i in picked]


def _estimates(
    drawn: Drawn, said: Bools | None, bootstrap: ClusterBootstrap | None
) -> dict[str, Estimate]:
    if said is None:
        return dict.fromkeys(Autointerp.declaration.metrics, undefined(_NO_ANSWER))
    likelihood = said.astype(np.float64)
    return {
        "accuracy": _share(said == drawn.active, bootstrap),
        "accuracy_saebench": _share(said == (drawn.active & ~drawn.random), bootstrap),
        "balanced_accuracy": ratio("balanced_accuracy", likelihood, drawn.active)
        if bootstrap is None
        else ratio_with_interval("balanced_accuracy", likelihood, drawn.active, bootstrap),
    }


def _share(right: Bools, bootstrap: ClusterBootstrap | None) -> Estimate:
    value = defined(float(right.mean()))
    if bootstrap is None:
        return value
    sums = bootstrap.sums(np.stack([right, np.ones_like(right)], axis=1).astype(np.float64))
    return value.within(bootstrap.bounds(sums[:, 0] / sums[:, 1], (0.0, 1.0)))


def _rows(evidence: Evidence, drawn: Drawn, said: Bools | None) -> list[ScoreRow]:
    return [
        ScoreRow(
            item=window.name,
            predicted=None if said is None else float(said[place]),
            measured=float(evidence.shares(window).max()),
            weight=1.0,
            excluded_reason=UNPREDICTED if said is None else "",
        )
        for place, window in enumerate(drawn.windows)
    ]
