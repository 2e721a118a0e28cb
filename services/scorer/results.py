"""From estimates to `Score` messages: the one place where counts, baselines, gap and
provenance are put beside a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from saexplain.common.v1.score_pb2 import (
    SCORE_STATUS_OK,
    SCORE_STATUS_UNDEFINED,
    Baseline,
    Interval,
    MethodResult,
    Score,
    ScoreRow,
)
from saexplain.common.v1.window_pb2 import Split
from saexplain.scorer.v1.scorer_pb2 import ScoreRequest
from services.scorer.methods.base import (
    ScoringMethod,
    judge_name,
    writer_is_explainer,
    writer_name,
)
from services.scorer.statistics.derived import gap_closed
from services.scorer.statistics.estimate import Estimate, undefined

Baselines = Mapping[str, Estimate]
"""Estimate of each trivial explanation, by name, in the order of showing."""


@dataclass(frozen=True)
class Counts:
    """How many items stand behind a score."""

    positive: int = 0
    negative: int = 0
    failed: int = 0
    invalid: int = 0


@dataclass(frozen=True)
class Measured:
    """One metric, before it becomes a message."""

    estimate: Estimate
    counts: Counts
    baselines: Baselines
    note: str = ""


def result(
    method: ScoringMethod,
    request: ScoreRequest,
    measured: Mapping[str, Measured],
    rows: Sequence[ScoreRow],
    split: Split.ValueType,
    judge: str = "",
) -> MethodResult:
    """The scores of every declared metric, in the order of the declaration. `judge` names
    who predicted where it is not the judge of the request."""
    scores = [
        _score(method, request, metric, measured[metric], split)
        for metric in method.declaration.metrics
    ]
    for score in scores:
        score.judge = judge or score.judge
    return MethodResult(method=method.declaration.name, scores=scores, rows=rows)


def nothing_scored(
    method: ScoringMethod, request: ScoreRequest, reason: str, split: Split.ValueType
) -> MethodResult:
    """Every metric undefined for one reason."""
    measured = Measured(undefined(reason), Counts(), {})
    return result(method, request, dict.fromkeys(method.declaration.metrics, measured), [], split)


def _score(
    method: ScoringMethod,
    request: ScoreRequest,
    metric: str,
    measured: Measured,
    split: Split.ValueType,
) -> Score:
    estimate, counts = measured.estimate, measured.counts
    score = Score(
        method=method.declaration.name,
        metric=metric,
        positive_count=counts.positive,
        negative_count=counts.negative,
        failed_count=counts.failed,
        invalid_count=counts.invalid,
        status=SCORE_STATUS_UNDEFINED if estimate.value is None else SCORE_STATUS_OK,
        status_reason=estimate.reason,
        value=estimate.value,
        baselines=[_baseline(n, e) for n, e in measured.baselines.items()],
        gap_closed=_gap(estimate, measured.baselines),
        estimator_version=method.declaration.version,
        judge=judge_name(request),
        seed=request.options.seed,
        split=split,
        insensitive=metric in method.insensitive,
        note=measured.note,
    )
    if method.declaration.writes_texts:
        score.writer = writer_name(request)
        if (same := writer_is_explainer(request)) is not None:
            score.writer_is_explainer = same
    if (bounds := estimate.interval) is not None:
        score.interval.CopyFrom(
            Interval(low=bounds.low, high=bounds.high, level=bounds.level, kind=bounds.kind)
        )
    return score


def _baseline(name: str, estimate: Estimate) -> Baseline:
    return Baseline(name=name, value=estimate.value, undefined_reason=estimate.reason)


def _gap(estimate: Estimate, baselines: Baselines) -> float | None:
    top, table = baselines.get("top_token"), baselines.get("token_table")
    if top is None or table is None:
        return None
    return gap_closed(estimate.value, top.value, table.value)
