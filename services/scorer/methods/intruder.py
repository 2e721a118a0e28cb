"""Intruder (EleutherAI's delphi): is the one window of five in which the feature is silent
found among four in which it fires alike?

20 groups of HELDOUT windows: four of one fifth of the activation, the fifths in turn, and a
silent one at a random place. The firing tokens are highlighted (0.3 of the window's own
maximum and above), in the silent window as many random tokens as in the others on average.

- `accuracy`: share of groups in which a judge that reads the explanation names the
  intruder.
- `accuracy_blind`: the same without an explanation, as published: it measures whether the
  feature is interpretable, not whether the explanation is right, and needs a language
  model.

Chance is one fifth; a judge or baseline that cannot tell passages apart names all of them
and gets that share of the point.
A group without a usable answer is n_failed. Intervals: bootstrap over the intruders'
documents.
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
)
from saexplain.scorer.v1.scorer_pb2 import (
    JUDGE_TASK_PICK,
    JUDGE_TASK_PICK_BLIND,
    Method,
    PlanScoreRequest,
    PlanScoreResponse,
    ScoreRequest,
)
from services.scorer import baselines
from services.scorer.baselines import Predict
from services.scorer.evidence import Evidence
from services.scorer.methods.base import (
    JUDGES,
    LLM_JUDGE,
    Writer,
    evidence_of,
    other_feature_pattern,
    unscorable,
)
from services.scorer.methods.highlights import firing_places, random_places
from services.scorer.methods.items import group_item
from services.scorer.methods.sample import UNPREDICTED
from services.scorer.methods.shown import SELECTIONS, heldout
from services.scorer.predictions import Predictions
from services.scorer.results import Baselines, Counts, Measured, nothing_scored, result
from services.scorer.statistics.estimate import Estimate, Floats, defined, undefined
from services.scorer.statistics.intervals import ClusterBootstrap

GROUPS = 20
MAJORITY = 4
_FIFTHS = 5

_NO_GROUPS = "too few held-out windows to make a group"
_NEEDS_LLM = "needs a language model: a pattern knows nothing but its explanation"
_UNEXPLAINED = undefined("does not depend on an explanation")


@dataclass(frozen=True)
class Group:
    """Passages of which one is the intruder.

    Attributes:
        id: without the prefix of its task.
        windows: in the order of showing.
        highlights: of each.
        intruder: place of the intruder.
    """

    id: str
    windows: Sequence[Window]
    highlights: Sequence[Sequence[int]]
    intruder: int


class Intruder:
    """delphi's intruder test, with and without the explanation."""

    declaration = Method(
        name="intruder",
        version="1",
        description="Finds the window in which the feature is silent among four that fire.",
        selections=(*SELECTIONS, *baselines.SELECTIONS),
        metrics=("accuracy", "accuracy_blind"),
        judges=JUDGES,
    )
    insensitive = frozenset(declaration.metrics)

    async def plan(self, request: PlanScoreRequest, writer: Writer) -> PlanScoreResponse:
        """One PICK item per group and, for a language model, one PICK_BLIND; no texts."""
        if unscorable(request):
            return PlanScoreResponse()
        tasks = {"told": JUDGE_TASK_PICK}
        if request.options.judge == LLM_JUDGE:
            tasks["blind"] = JUDGE_TASK_PICK_BLIND
        groups = _drawn(evidence_of(request), request.options.seed)
        return PlanScoreResponse(
            judge_items=[
                group_item(f"{prefix}/{g.id}", task, g.windows, g.highlights)
                for prefix, task in tasks.items()
                for g in groups
            ]
        )

    def score(self, request: ScoreRequest) -> MethodResult:
        """Both accuracies."""
        if reason := unscorable(request):
            return nothing_scored(self, request, reason, SPLIT_HELDOUT)
        evidence, seed = evidence_of(request), request.options.seed
        groups, predictions = _drawn(evidence, seed), Predictions(request.predictions)
        trivial = baselines.fit(evidence, other_feature_pattern(request))
        told, rows = _measured("told", groups, predictions, seed)
        others = {
            b.name: _of_baseline(b.predict, groups) if b.predict else undefined(b.undefined_reason)
            for b in trivial
        }
        blind = Measured(undefined(_NEEDS_LLM), Counts(), {})
        measured = {"accuracy": _with(told, others), "accuracy_blind": blind}
        if request.options.judge == LLM_JUDGE:
            unexplained, more = _measured("blind", groups, predictions, seed)
            rows += more
            none = dict.fromkeys(baselines.NAMES, _UNEXPLAINED)
            measured["accuracy_blind"] = _with(unexplained, none)
        return result(self, request, measured, rows, SPLIT_HELDOUT)


def _drawn(evidence: Evidence, seed: int) -> list[Group]:
    firing: dict[int, list[Window]] = {}
    for window in evidence.windows(SPLIT_HELDOUT, WINDOW_STRATEGY_QUANTILE):
        firing.setdefault(window.stratum, []).append(window)
    fifths = [firing[s] for s in sorted(firing) if len(firing[s]) >= MAJORITY]
    if not fifths:
        return []
    rng = np.random.default_rng(seed % 2**64)
    intruders = heldout(evidence, WINDOW_STRATEGY_NON_ACTIVATING, GROUPS, seed)
    return [_group(i, w, fifths[i % len(fifths)], rng) for i, w in enumerate(intruders)]


def _group(
    number: int, intruder: Window, fifth: Sequence[Window], rng: np.random.Generator
) -> Group:
    picks = rng.choice(len(fifth), MAJORITY, replace=False).tolist()
    windows = [fifth[i] for i in picks]
    highlights = [firing_places(w) for w in windows]
    mean = round(float(np.mean([len(h) for h in highlights])))
    place = int(rng.integers(MAJORITY + 1))
    windows.insert(place, intruder)
    anywhere = random_places(range(len(intruder.tokens.token_ids)), mean, rng)
    highlights.insert(place, anywhere)
    return Group(f"{number}", windows, highlights, place)


def _measured(
    prefix: str, groups: Sequence[Group], predictions: Predictions, seed: int
) -> tuple[Measured, list[ScoreRow]]:
    rows, found, documents = [], [], []
    for group in groups:
        item = f"{prefix}/{group.id}"
        chosen = predictions.chosen(item, len(group.windows))
        right = None if not chosen else (group.intruder in chosen) / len(chosen)
        reason = UNPREDICTED if right is None else ""
        rows.append(
            ScoreRow(item=item, predicted=right, measured=1.0, weight=1.0, excluded_reason=reason)
        )
        if right is not None:
            found.append(right)
            documents.append(group.windows[group.intruder].document)
    values = np.array(found, np.float64)
    counts = Counts(len(found), 0, len(groups) - len(found))
    nothing = "no group has an answer" if groups else _NO_GROUPS
    return Measured(_share(values, documents, seed, nothing), counts, {}), rows


def _share(values: Floats, documents: Sequence[str], seed: int, nothing: str) -> Estimate:
    if not values.size:
        return undefined(nothing)
    bootstrap = ClusterBootstrap(documents, seed)
    sums = bootstrap.sums(np.stack([values, np.ones_like(values)], axis=1))
    return defined(values.mean()).within(bootstrap.bounds(sums[:, 0] / sums[:, 1], (0.0, 1.0)))


def _with(measured: Measured, others: Mapping[str, Estimate]) -> Measured:
    trivial: Baselines = others
    return Measured(measured.estimate, measured.counts, trivial)


def _of_baseline(predict: Predict, groups: Sequence[Group]) -> Estimate:
    """Expected share where ties are broken at random."""
    if not groups:
        return undefined(_NO_GROUPS)
    points = []
    for group in groups:
        pairs = zip(group.windows, group.highlights, strict=True)
        shares = np.array([predict(w)[list(h)].max() if h else predict(w).max() for w, h in pairs])
        lowest = shares == shares.min()
        points.append(float(lowest[group.intruder]) / float(lowest.sum()))
    return defined(float(np.mean(points)))
