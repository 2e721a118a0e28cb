"""Example embedding (EleutherAI's delphi): are windows in which the feature fires closer to
examples of it than to silent text?

- `auroc`: area under the ROC curve of the mean cosine to ten firing EXPLAIN windows minus
  the mean cosine to ten silent ones. delphi draws new examples for every query; here all
  queries meet the same twenty.

It needs no explanation: it says how far embeddings of examples alone separate the feature,
which is what an explanation in words competes with. Needs an embedding model; see `ranking`
for the windows. Interval: bootstrap over documents.
"""

from __future__ import annotations

import numpy as np

from saexplain.common.v1.score_pb2 import MethodResult
from saexplain.common.v1.window_pb2 import (
    SPLIT_EXPLAIN,
    SPLIT_HELDOUT,
    WINDOW_STRATEGY_NON_ACTIVATING,
    WINDOW_STRATEGY_RANDOM_ACTIVE,
    Window,
    WindowStrategy,
)
from saexplain.scorer.v1.scorer_pb2 import (
    Method,
    PlanScoreRequest,
    PlanScoreResponse,
    ScoreRequest,
)
from services.scorer import baselines
from services.scorer.evidence import Evidence, selection
from services.scorer.methods.base import LLM_JUDGE, Writer, evidence_of, unscorable
from services.scorer.methods.ranking import Ranked, window_items
from services.scorer.methods.shown import SELECTIONS, sample
from services.scorer.predictions import Predictions
from services.scorer.results import nothing_scored
from services.scorer.statistics.estimate import undefined

EXAMPLES = 10
"""EXPLAIN windows of each kind."""


class ExampleEmbedding:
    """AUROC of similarity to examples."""

    declaration = Method(
        name="example_embedding",
        version="1",
        description="Ranks windows by their similarity to examples; needs no explanation.",
        selections=(
            *SELECTIONS,
            selection(SPLIT_EXPLAIN, WINDOW_STRATEGY_RANDOM_ACTIVE, 300),
            selection(SPLIT_EXPLAIN, WINDOW_STRATEGY_NON_ACTIVATING, 300),
        ),
        metrics=("auroc",),
        judges=(LLM_JUDGE,),
    )
    insensitive = frozenset(declaration.metrics)

    async def plan(self, request: PlanScoreRequest, writer: Writer) -> PlanScoreResponse:
        """One EMBED item per window of both splits; no texts."""
        if unscorable(request):
            return PlanScoreResponse()
        evidence, seed = evidence_of(request), request.options.seed
        windows = [
            w for group in (*sample(evidence, seed), *_examples(evidence, seed)) for w in group
        ]
        return PlanScoreResponse(judge_items=window_items(windows))

    def score(self, request: ScoreRequest) -> MethodResult:
        """The area; baselines are explanations and have no part in it."""
        if reason := unscorable(request):
            return nothing_scored(self, request, reason, SPLIT_HELDOUT)
        evidence, seed = evidence_of(request), request.options.seed
        predictions = Predictions(request.predictions)
        ranked = Ranked(evidence, predictions, seed)
        vectors = [
            [v for w in group if (v := predictions.embedding(w.name)) is not None]
            for group in _examples(evidence, seed)
        ]
        scores = None
        if all(vectors):
            firing, silent = (ranked.similarities(group) for group in vectors)
            scores = firing.mean(axis=1) - silent.mean(axis=1)
        others = dict.fromkeys(baselines.NAMES, undefined("does not depend on an explanation"))
        judge = ", ".join(predictions.models())
        missing = "no example of one kind has an embedding"
        return ranked.result(self, request, scores, missing, others, judge)


def _examples(evidence: Evidence, seed: int) -> tuple[list[Window], list[Window]]:
    return (
        _some(evidence, WINDOW_STRATEGY_RANDOM_ACTIVE, seed),
        _some(evidence, WINDOW_STRATEGY_NON_ACTIVATING, seed),
    )


def _some(evidence: Evidence, strategy: WindowStrategy.ValueType, seed: int) -> list[Window]:
    windows = sorted(evidence.windows(SPLIT_EXPLAIN, strategy), key=lambda w: w.name)
    order = np.random.default_rng(seed % 2**64).permutation(len(windows))
    return [windows[int(i)] for i in order[:EXAMPLES]]
