"""One row per explainer and feature: what a comparison knows of one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from google.protobuf.timestamp_pb2 import Timestamp

from saexplain.common.v1.score_pb2 import Score
from saexplain.common.v1.usage_pb2 import LlmUsage
from saexplain.explanation.v1 import explanation_pb2 as pb
from services.cli.follow import FollowedRun
from services.cli.report.formats import enum_name, optional

EXPLAINED = "explained"
_SCORING = "score."
_SCORABLE = frozenset({EXPLAINED, "positional"})


@dataclass(frozen=True)
class Value:
    """A metric of one run.

    Attributes:
        value: None where there is none, then `reason` says why.
        reason: why there is no value.
        low: lower bound of its own interval; None where there is none.
        high: upper bound.
        baselines: what trivial explanations reach on the same items, undefined ones left out.
        insensitive: whether the metric overlooks a missing or an extra part.
        judge: who predicted.
    """

    value: float | None
    reason: str = ""
    low: float | None = None
    high: float | None = None
    baselines: Mapping[str, float] = field(default_factory=dict)
    insensitive: bool = False
    judge: str = ""


@dataclass(frozen=True)
class Cost:
    """What a run took. Failed and repeated calls count.

    Attributes:
        visible_tokens: prompts and replies while explaining, reasoning left out.
        explaining_tokens: the same with reasoning.
        scoring_tokens: of the scores' writers and judges, with reasoning.
        money: of the whole run; None where a price is not known.
        currency: ISO 4217; empty where `money` is None or nothing was bought.
        seconds: from start to end; None where it never started.
    """

    visible_tokens: int
    explaining_tokens: int
    scoring_tokens: int
    money: float | None
    currency: str
    seconds: float | None


@dataclass(frozen=True)
class Row:
    """A run as a comparison sees it.

    Attributes:
        explainer: as it was named for the comparison.
        feature: `saes/{sae}/features/{index}`.
        name: of the explanation; empty where the request was refused.
        stratum: group of the funnel in words; empty where it is not known.
        outcome: `explained`, `no explanation`, ..., or `failed`, `cancelled`, `refused`.
        reason: why there is no explanation; empty where there is.
        partial: whether a budget ended the run early.
        label: of the explanation.
        values: metrics by `method.metric`; empty without a dossier.
        cost: None where the request was refused.
    """

    explainer: str
    feature: str
    name: str
    stratum: str
    outcome: str
    reason: str = ""
    partial: bool = False
    label: str = ""
    values: Mapping[str, Value] = field(default_factory=dict)
    cost: Cost | None = None

    @property
    def explained(self) -> bool:
        """Whether there is an explanation that can be scored."""
        return self.outcome in _SCORABLE

    @property
    def ended_well(self) -> bool:
        """Whether the run ended with a dossier, whatever it says."""
        return self.outcome not in {"failed", "cancelled", "refused"}

    def value_of(self, metric: str) -> float | None:
        """A metric's value; None where there is none."""
        found = self.values.get(metric)
        return None if found is None else found.value


def row_of(
    explainer: str, run: FollowedRun, bundle: pb.DossierBundle | None, stratum: str = ""
) -> Row:
    """The row of a run that was followed to its end.

    Args:
        bundle: dossier and run record of a run that succeeded; None otherwise.
        stratum: of the feature, where the index told it; else the dossier's.
    """
    if run.error is not None or run.result is None:
        error = run.error
        reason = "" if error is None else f"{error.reason or error.status}: {error.message}"
        return Row(explainer, run.feature, run.name, stratum, "refused", reason)
    if bundle is None:
        return _failed(explainer, run.feature, stratum, run.result)
    dossier, found = bundle.dossier, bundle.dossier.explanation
    outcome = enum_name(found, "status")
    return Row(
        explainer=explainer,
        feature=run.feature,
        name=run.name,
        stratum=stratum or enum_name(dossier.facts, "stratum"),
        outcome=outcome,
        reason="" if outcome in _SCORABLE else found.status_detail,
        partial=dossier.partial,
        label=found.label,
        values={
            f"{score.method}.{score.metric}": _value(score)
            for result in dossier.results
            for score in result.scores
        },
        cost=_cost(bundle.run.usage, _seconds(bundle.run.start_time, bundle.run.end_time)),
    )


def _failed(explainer: str, feature: str, stratum: str, result: pb.ExplanationResource) -> Row:
    failure = result.failure
    seconds = _seconds(result.create_time, result.end_time)
    return Row(
        explainer=explainer,
        feature=feature,
        name=result.name,
        stratum=stratum,
        outcome=enum_name(result, "state"),
        reason=f"{failure.reason}: {failure.message}" if failure.reason else "",
        cost=_cost(result.usage, seconds),
    )


def _value(score: Score) -> Value:
    interval = score.interval if score.HasField("interval") else None
    return Value(
        value=optional(score, "value"),
        reason=score.status_reason,
        low=None if interval is None else interval.low,
        high=None if interval is None else interval.high,
        baselines={b.name: b.value for b in score.baselines if b.HasField("value")},
        insensitive=score.insensitive,
        judge=score.judge,
    )


def _cost(usage: LlmUsage, seconds: float | None) -> Cost:
    explaining = [call for call in usage.calls if not call.step.startswith(_SCORING)]
    scoring = [call for call in usage.calls if call.step.startswith(_SCORING)]
    tokens = sum(call.prompt_token_count + call.completion_token_count for call in explaining)
    reasoning = sum(call.reasoning_token_count for call in explaining)
    bought = usage.request_count > 0
    return Cost(
        visible_tokens=tokens - reasoning,
        explaining_tokens=tokens,
        scoring_tokens=sum(c.prompt_token_count + c.completion_token_count for c in scoring),
        money=optional(usage, "cost") if bought else 0.0,
        currency=usage.currency_code,
        seconds=seconds,
    )


def _seconds(begin: Timestamp, end: Timestamp) -> float | None:
    started, ended = begin.ToNanoseconds(), end.ToNanoseconds()
    return (ended - started) / 1e9 if started and ended else None
