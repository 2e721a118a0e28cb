"""Embedding (EleutherAI's delphi; Neuronpedia): are windows in which the feature fires
closer to the explanation's text than silent ones?

- `auroc`: area under the ROC curve of the cosine between the embeddings of the window and
  of the explanation's description. delphi puts an instruction for one family of models
  before the explanation; here it is embedded as it is.

The baselines are what their patterns read as in words. Needs an embedding model; see
`ranking` for the windows. Interval: bootstrap over documents.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from saexplain.common.v1.pattern_pb2 import Pattern
from saexplain.common.v1.score_pb2 import MethodResult
from saexplain.common.v1.window_pb2 import SPLIT_HELDOUT
from saexplain.scorer.v1.scorer_pb2 import (
    Method,
    PlanScoreRequest,
    PlanScoreResponse,
    ScoreRequest,
)
from services.common.pattern import describe
from services.scorer import baselines
from services.scorer.methods.base import (
    LLM_JUDGE,
    Writer,
    evidence_of,
    other_feature_pattern,
    unscorable,
)
from services.scorer.methods.items import embed_item
from services.scorer.methods.ranking import Ranked, window_items
from services.scorer.methods.shown import SELECTIONS, sample
from services.scorer.predictions import Predictions
from services.scorer.results import nothing_scored
from services.scorer.statistics.estimate import Estimate, undefined

EXPLANATION = "explanation"

MAX_BASELINE_RULES = 20
"""Rules of a baseline that are put into words: the strongest."""


class Embedding:
    """AUROC of similarity to the explanation."""

    declaration = Method(
        name="embedding",
        version="1",
        description="Ranks windows by the similarity of their embedding to the explanation's.",
        selections=(*SELECTIONS, *baselines.SELECTIONS),
        metrics=("auroc",),
        judges=(LLM_JUDGE,),
    )
    insensitive = frozenset(declaration.metrics)

    async def plan(self, request: PlanScoreRequest, writer: Writer) -> PlanScoreResponse:
        """One EMBED item per window, for the explanation and for the baselines."""
        if unscorable(request):
            return PlanScoreResponse()
        firing, silent = sample(evidence_of(request), request.options.seed)
        explanation = request.explanation
        items = [embed_item(EXPLANATION, explanation.description or explanation.label)]
        described = await asyncio.to_thread(_described, request)
        items += [embed_item(f"baseline/{name}", text) for name, text in described.items()]
        return PlanScoreResponse(judge_items=[*items, *window_items([*firing, *silent])])

    def score(self, request: ScoreRequest) -> MethodResult:
        """The area, with the baselines that can be put into words."""
        if reason := unscorable(request):
            return nothing_scored(self, request, reason, SPLIT_HELDOUT)
        predictions = Predictions(request.predictions)
        ranked = Ranked(evidence_of(request), predictions, request.options.seed)
        own = predictions.embedding(EXPLANATION)
        scores = None if own is None else ranked.similarities([own])[:, 0]
        others = {name: _of_baseline(ranked, predictions, name) for name in baselines.NAMES}
        judge = ", ".join(predictions.models())
        missing = "the explanation has no embedding"
        return ranked.result(self, request, scores, missing, others, judge)


def _described(request: PlanScoreRequest) -> Mapping[str, str]:
    trivial = baselines.fit(evidence_of(request), other_feature_pattern(request))
    # "Any token" is no text to be similar to.
    named = {b.name: b.pattern for b in trivial if b.pattern is not None and b.name != "constant"}
    return {name: describe(_strongest(pattern)) for name, pattern in named.items()}


def _strongest(pattern: Pattern) -> Pattern:
    kept, room = Pattern(), MAX_BASELINE_RULES
    for part in pattern.parts:
        if room > 0:
            shortened = kept.parts.add(label=part.label)
            shortened.rules.extend(part.rules[:room])
            room -= len(part.rules)
    return kept


def _of_baseline(ranked: Ranked, predictions: Predictions, name: str) -> Estimate:
    vector = predictions.embedding(f"baseline/{name}")
    if vector is None:
        return undefined("it has no words or no embedding")
    return ranked.area(ranked.similarities([vector])[:, 0], interval=False)
