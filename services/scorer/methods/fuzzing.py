"""Fuzzing (EleutherAI's delphi, arXiv 2410.13928): does a judge that reads the explanation
tell highlights where the feature fires from highlights at random?

The windows of detection. In those in which the feature fires the tokens at 0.3 of the
window's own maximum and above are highlighted, in silent ones as many random tokens as in
the others on average. Nothing else of an activation is shown.

Metrics as in detection, and

- `wrong_token_rejection`: share of 25 of the same firing windows answered no when as many
  random tokens are highlighted at which the feature is silent. delphi shows such only in
  silent windows, where an explanation of the topic suffices to refuse them.

Intervals: bootstrap over documents. The windows are balanced by design, see detection.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from saexplain.common.v1.score_pb2 import MethodResult
from saexplain.common.v1.window_pb2 import SPLIT_HELDOUT, Window
from saexplain.scorer.v1.scorer_pb2 import (
    Method,
    PlanScoreRequest,
    PlanScoreResponse,
    ScoreRequest,
)
from services.scorer import baselines
from services.scorer.evidence import Evidence, activations
from services.scorer.methods.base import JUDGES, Writer, evidence_of, unscorable
from services.scorer.methods.highlights import firing_places, random_places
from services.scorer.methods.items import highlight_item
from services.scorer.methods.shown import METRICS, SELECTIONS, Shown, sample, score_answers
from services.scorer.results import nothing_scored

WRONG = 25


class Fuzzing:
    """delphi's fuzzing, with wrong tokens in firing windows beside."""

    declaration = Method(
        name="fuzzing",
        version="1",
        description="Tells highlights where the feature fires from random ones.",
        selections=(*SELECTIONS, *baselines.SELECTIONS),
        metrics=(*METRICS, "wrong_token_rejection"),
        judges=JUDGES,
    )
    insensitive = frozenset(declaration.metrics)

    async def plan(self, request: PlanScoreRequest, writer: Writer) -> PlanScoreResponse:
        """One CLASSIFY_HIGHLIGHTS item per window and highlighting; no texts."""
        if unscorable(request):
            return PlanScoreResponse()
        main, wrong = _drawn(evidence_of(request), request.options.seed)
        items = sorted([*main, *wrong], key=lambda s: s.id)
        return PlanScoreResponse(
            judge_items=[highlight_item(s.id, s.window, s.highlights) for s in items]
        )

    def score(self, request: ScoreRequest) -> MethodResult:
        """All metrics with the four baselines."""
        if reason := unscorable(request):
            return nothing_scored(self, request, reason, SPLIT_HELDOUT)
        main, wrong = _drawn(evidence_of(request), request.options.seed)
        return score_answers(self, request, main, {"wrong_token_rejection": wrong})


def _drawn(evidence: Evidence, seed: int) -> tuple[list[Shown], list[Shown]]:
    """Firing windows with their own highlights, silent ones with random ones, and firing
    ones with random silent tokens."""
    firing, silent = sample(evidence, seed)
    rng = np.random.default_rng(seed % 2**64)
    own = [firing_places(w) for w in firing]
    mean = round(float(np.mean([len(places) for places in own]))) if own else 1
    main = [_shown(w, True, places) for w, places in zip(firing, own, strict=True)]
    main += [_shown(w, False, random_places(_silent(w), mean, rng)) for w in silent]
    wrong: list[Shown] = []
    for window, places in zip(firing, own, strict=True):
        chosen = random_places(_silent(window), len(places), rng)
        if chosen and len(wrong) < WRONG:
            wrong.append(_shown(window, False, chosen, "/wrong"))
    return main, wrong


def _silent(window: Window) -> list[int]:
    places: list[int] = np.flatnonzero(activations(window) == 0).tolist()
    return places


def _shown(window: Window, active: bool, places: Sequence[int], suffix: str = "") -> Shown:
    return Shown(window.name + suffix, window, active, tuple(places))
