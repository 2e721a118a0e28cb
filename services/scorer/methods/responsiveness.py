"""Responsiveness (FADE, arXiv 2502.16994): do windows that clearly express what is explained
activate the feature more than windows that do not?

- `responsiveness`: Gini, 2 AUROC - 1, of the largest activation of windows rated 2 against
  those rated 0; below 0 where the feature fires on what is not the concept.
- `responsiveness_fade`: its absolute value, as published.

Both at natural prevalence (see `rated`), where FADE takes its own mix of random and strong
samples; on unit weights `responsiveness_fade` is the published number. Undefined without
windows of both ratings, where the published code fails. Interval: bootstrap over documents.
"""

from __future__ import annotations

from saexplain.common.v1.score_pb2 import MethodResult
from saexplain.scorer.v1.scorer_pb2 import (
    Method,
    PlanScoreRequest,
    PlanScoreResponse,
    ScoreRequest,
)
from services.scorer.methods.base import JUDGES, Writer
from services.scorer.methods.rated import SELECTIONS, plan_ratings, score_ratings
from services.scorer.statistics.separation import folded_gini, gini

_WANTED = {"responsiveness": gini, "responsiveness_fade": folded_gini}


class Responsiveness:
    """FADE's responsiveness, signed and folded."""

    declaration = Method(
        name="responsiveness",
        version="1",
        description="Asks whether windows that are rated as the concept activate more.",
        selections=SELECTIONS,
        metrics=tuple(_WANTED),
        judges=JUDGES,
    )
    # The windows that a narrow explanation misses are few among all that it rates 0.
    insensitive = frozenset(declaration.metrics)

    async def plan(self, request: PlanScoreRequest, writer: Writer) -> PlanScoreResponse:
        """One RATE item per window; no texts."""
        return plan_ratings(request)

    def score(self, request: ScoreRequest) -> MethodResult:
        """Both with the four baselines."""
        return score_ratings(self, request, _WANTED)
