"""Detection (EleutherAI's delphi, arXiv 2410.13928): does a judge that reads the
explanation tell windows in which the feature fires from windows in which it is silent?

50 windows in equal shares from the fifths of the activation, 50 random silent ones, all of
HELDOUT. The judge states how likely each is; from one half on it is a yes.

- `balanced_accuracy`, `f1`, `precision`, `recall`, `specificity`, `auc`: over the windows.
  `auc` ranks by the stated likelihood; delphi by the log-probability of its digit.
- `balanced_accuracy_delphi`, `balanced_accuracy_neuronpedia`: the same number under the two
  services' conventions for a class without answers, which `balanced_accuracy` leaves
  undefined.
- `near_miss_rejection`: share of NEAR_MISS windows answered no, apart from the sample.

A window without a usable answer is n_failed. Intervals: bootstrap over documents. The
windows are balanced by design: an explanation that is too broad pays little here. See the
corpus method for natural prevalence.
"""

from __future__ import annotations

from saexplain.common.v1.score_pb2 import MethodResult
from saexplain.common.v1.window_pb2 import SPLIT_HELDOUT, WINDOW_STRATEGY_NEAR_MISS, Window
from saexplain.scorer.v1.scorer_pb2 import (
    Method,
    PlanScoreRequest,
    PlanScoreResponse,
    ScoreRequest,
)
from services.scorer import baselines
from services.scorer.evidence import Evidence, selection
from services.scorer.methods.base import JUDGES, Writer, evidence_of, unscorable
from services.scorer.methods.items import classify_item
from services.scorer.methods.shown import METRICS, SELECTIONS, Shown, heldout, sample, score_answers
from services.scorer.results import nothing_scored

NEAR_MISSES = 30


class Detection:
    """delphi's detection, with Neuronpedia's variant and near misses."""

    declaration = Method(
        name="detection",
        version="1",
        description="Tells windows in which the feature fires from silent ones.",
        selections=(
            *SELECTIONS,
            selection(SPLIT_HELDOUT, WINDOW_STRATEGY_NEAR_MISS, NEAR_MISSES),
            *baselines.SELECTIONS,
        ),
        metrics=(*METRICS, "near_miss_rejection"),
        judges=JUDGES,
    )
    insensitive = frozenset(declaration.metrics)

    async def plan(self, request: PlanScoreRequest, writer: Writer) -> PlanScoreResponse:
        """One CLASSIFY item per window; no texts."""
        if unscorable(request):
            return PlanScoreResponse()
        main, near = _drawn(evidence_of(request), request.options.seed)
        unique = {s.id: s.window for s in (*main, *near)}
        return PlanScoreResponse(judge_items=[classify_item(unique[n]) for n in sorted(unique)])

    def score(self, request: ScoreRequest) -> MethodResult:
        """All metrics with the four baselines."""
        if reason := unscorable(request):
            return nothing_scored(self, request, reason, SPLIT_HELDOUT)
        main, near = _drawn(evidence_of(request), request.options.seed)
        return score_answers(self, request, main, {"near_miss_rejection": near})


def _drawn(evidence: Evidence, seed: int) -> tuple[list[Shown], list[Shown]]:
    active, silent = sample(evidence, seed)
    near = heldout(evidence, WINDOW_STRATEGY_NEAR_MISS, NEAR_MISSES, seed)
    return [*_shown(active, True), *_shown(silent, False)], _shown(near, False)


def _shown(windows: list[Window], active: bool) -> list[Shown]:
    return [Shown(w.name, w, active) for w in windows]
