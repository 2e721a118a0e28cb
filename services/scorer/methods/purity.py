"""Purity (FADE, arXiv 2502.16994): are the windows that activate the feature most those that
clearly express what is explained?

- `purity`: average precision of the windows rated 2, among those rated 2 and 0, in the
  ranking by largest activation.
- `purity_fade`: the same of the ranking turned round where responsiveness is below 0, as
  published.

Both at natural prevalence (see `rated`), where FADE takes its own mix of random and strong
samples; on unit weights `purity_fade` is the published number. Undefined without windows of
both ratings, where the published code fails. Interval: bootstrap over documents.
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
from services.scorer.statistics.separation import folded_precision, precision

_WANTED = {"purity": precision, "purity_fade": folded_precision}


class Purity:
    """FADE's purity, in the ranking as it is and folded."""

    declaration = Method(
        name="purity",
        version="1",
        description="Asks whether the most active windows are rated as the concept.",
        selections=SELECTIONS,
        metrics=tuple(_WANTED),
        judges=JUDGES,
    )
    insensitive: frozenset[str] = frozenset()

    async def plan(self, request: PlanScoreRequest, writer: Writer) -> PlanScoreResponse:
        """One RATE item per window; no texts."""
        return plan_ratings(request)

    def score(self, request: ScoreRequest) -> MethodResult:
        """Both with the four baselines."""
        return score_ratings(self, request, _WANTED)
