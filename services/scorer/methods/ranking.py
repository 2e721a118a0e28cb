"""Windows ranked by a number of their embedding: what the two embedding methods have in
common.

The windows are those of detection: 50 HELDOUT windows in which the feature fires, 50 in
which it is silent. The score is the area under the ROC curve, neither folded at one half
nor rescaled. Whole windows are embedded, tokens joined, nothing highlighted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from saexplain.common.v1.score_pb2 import MethodResult, ScoreRow
from saexplain.common.v1.window_pb2 import SPLIT_HELDOUT, Window
from saexplain.scorer.v1.scorer_pb2 import JudgeItem, ScoreRequest
from services.common.errors import InvalidArgument
from services.scorer.evidence import Evidence
from services.scorer.methods.base import ScoringMethod
from services.scorer.methods.items import embed_item
from services.scorer.methods.sample import UNPREDICTED
from services.scorer.methods.shown import sample
from services.scorer.predictions import Predictions
from services.scorer.results import Counts, Measured, result
from services.scorer.statistics.auc import auroc
from services.scorer.statistics.balanced import auroc_with_interval
from services.scorer.statistics.estimate import Estimate, Floats, undefined
from services.scorer.statistics.intervals import ClusterBootstrap
from services.scorer.statistics.similarity import cosines


def text_of(window: Window) -> str:
    """The window's tokens as text; a character cut at its ends is drawn as U+FFFD."""
    return b"".join(window.tokens.token_bytes).decode(errors="replace")


def window_items(windows: Sequence[Window]) -> list[JudgeItem]:
    """One EMBED item per window with a text, by name."""
    named = {w.name: text_of(w) for w in windows}
    return [embed_item(name, named[name]) for name in sorted(named) if named[name]]


class Ranked:
    """The HELDOUT windows that have a vector.

    Raises:
        InvalidArgument: vectors of several lengths, or one that is all 0.
    """

    def __init__(self, evidence: Evidence, predictions: Predictions, seed: int) -> None:
        firing, silent = sample(evidence, seed)
        labelled = [(w, True) for w in firing] + [(w, False) for w in silent]
        vectors = [predictions.embedding(w.name) for w, _ in labelled]
        pairs = [(w, a, v) for (w, a), v in zip(labelled, vectors, strict=True) if v is not None]
        self.windows = [w for w, _, _ in pairs]
        self.active = np.array([a for _, a, _ in pairs], np.bool_)
        self.vectors = [v for _, _, v in pairs]
        self.failed = [w for (w, _), v in zip(labelled, vectors, strict=True) if v is None]
        self._bootstrap = ClusterBootstrap([w.document for w in self.windows], seed)

    def similarities(self, others: Sequence[Floats]) -> Floats:
        """Cosines [windows, others]."""
        if not self.vectors:
            return np.zeros((0, len(others)))
        try:
            return cosines(self.vectors, others)
        except ValueError as error:
            raise InvalidArgument(f"{error}", "predictions") from error

    def area(self, scores: Floats, *, interval: bool) -> Estimate:
        """Area under the ROC curve of a score per window."""
        if interval:
            return auroc_with_interval(scores, self.active, self._bootstrap)
        return auroc(scores, self.active)

    def result(
        self,
        method: ScoringMethod,
        request: ScoreRequest,
        scores: Floats | None,
        reason: str,
        others: Mapping[str, Estimate],
        judge: str,
    ) -> MethodResult:
        """The one metric; undefined for a reason where there are no scores."""
        estimate = undefined(reason) if scores is None else self.area(scores, interval=True)
        active = int(self.active.sum())
        counts = Counts(active, len(self.windows) - active, len(self.failed))
        (metric,) = method.declaration.metrics
        measured = {metric: Measured(estimate, counts, others)}
        return result(method, request, measured, self._rows(scores), SPLIT_HELDOUT, judge)

    def _rows(self, scores: Floats | None) -> list[ScoreRow]:
        rows = [
            ScoreRow(
                item=window.name,
                predicted=None if scores is None else float(scores[place]),
                measured=float(self.active[place]),
                weight=1.0,
                excluded_reason=UNPREDICTED if scores is None else "",
            )
            for place, window in enumerate(self.windows)
        ]
        return rows + [
            ScoreRow(item=w.name, weight=1.0, excluded_reason=UNPREDICTED) for w in self.failed
        ]
