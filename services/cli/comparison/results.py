"""What a comparison says, computed from its rows. Pure code.

One primary metric is named beforehand; its differences to the reference explainer stand by
themselves (with more than two explainers, Holm's correction is among them). All other metrics
are one family under Holm's correction. Only features on which both explainers have a value
enter a difference; how many that leaves out is part of the result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from services.cli.comparison.model import (
    Comparison,
    Difference,
    Leakage,
    Question,
    Spent,
    Standing,
)
from services.cli.comparison.rows import Row
from services.common.errors import InvalidArgument
from services.common.statistics.holm import holm
from services.common.statistics.paired import (
    MeanEstimate,
    PairedDifference,
    bootstrap_mean,
    paired_difference,
)

TABLE, TOP = "token_table", "top_token"
STRATA = ("dead", "too rare", "eligible", "dense", "very dense")


def compare(
    rows: Iterable[Row], question: Question, funnel: Mapping[str, int] | None = None
) -> Comparison:
    """Compares explainers on the rows of their runs.

    Raises:
        InvalidArgument: no explainer or one named twice, no feature, a row that was not
            asked for or that there are two of, or a run that is missing.
    """
    table = _table(rows, question)
    ordered = [table[e, f] for e in question.explainers for f in question.features]
    metrics = _metrics(ordered, question.primary)
    flagged = frozenset(
        metric for row in ordered for metric, value in row.values.items() if value.insensitive
    )
    per_explainer = {
        e: [table[e, feature] for feature in question.features] for e in question.explainers
    }
    strata = _strata(table, question)
    differences = _differences(per_explainer, metrics, flagged, question)
    primary = [d for d in differences if d.metric == question.primary]
    others = [d for d in differences if d.metric != question.primary]
    return Comparison(
        question=question,
        rows=ordered,
        metrics=metrics,
        flagged=flagged,
        standings=[
            _standing(e, per_explainer[e], metrics, strata, question) for e in question.explainers
        ],
        primary=_corrected(primary),
        others=_corrected(others),
        funnel=dict(funnel or {}),
        strata=_in_order(Counter(strata.values())),
    )


def _table(rows: Iterable[Row], question: Question) -> dict[tuple[str, str], Row]:
    explainers, features = question.explainers, question.features
    if not explainers or len(set(explainers)) < len(explainers):
        raise InvalidArgument("names at least one explainer, each once", "--explainers")
    if not features or len(set(features)) < len(features):
        raise InvalidArgument("names at least one feature, each once", "--features")
    wanted = {(e, f) for e in explainers for f in features}
    table: dict[tuple[str, str], Row] = {}
    for row in rows:
        key = row.explainer, row.feature
        if key not in wanted or key in table:
            raise InvalidArgument(f"{key} was not asked for, or comes twice", "rows")
        table[key] = row
    if missing := wanted - table.keys():
        raise InvalidArgument(f"{min(missing)} is missing", "rows")
    return table


def _metrics(rows: Sequence[Row], primary: str) -> list[str]:
    """All metrics in the order in which they come up, the primary one first."""
    seen = dict.fromkeys([primary, *(metric for row in rows for metric in row.values)])
    return list(seen)


def _strata(table: Mapping[tuple[str, str], Row], question: Question) -> dict[str, str]:
    """The stratum of every feature; `unknown` where no run of it told one."""
    found = {}
    for feature in question.features:
        told = (table[e, feature].stratum for e in question.explainers)
        found[feature] = next((stratum for stratum in told if stratum), "unknown")
    return found


def _in_order(counts: Mapping[str, int]) -> dict[str, int]:
    known = [s for s in STRATA if s in counts]
    return {s: counts[s] for s in [*known, *sorted(counts.keys() - set(STRATA))]}


def _differences(
    per_explainer: Mapping[str, Sequence[Row]],
    metrics: Sequence[str],
    flagged: frozenset[str],
    question: Question,
) -> list[Difference]:
    reference, *rivals = question.explainers
    found = []
    for metric in metrics:
        for explainer in rivals:
            pairs = _pairs(per_explainer[explainer], per_explainer[reference], metric)
            found.append(
                Difference(
                    metric=metric,
                    explainer=explainer,
                    reference=reference,
                    found=_paired(pairs, question),
                    unpaired=len(question.features) - len(pairs),
                    insensitive=metric in flagged,
                )
            )
    return found


def _pairs(first: Sequence[Row], second: Sequence[Row], metric: str) -> list[tuple[float, float]]:
    values = [(a.value_of(metric), b.value_of(metric)) for a, b in zip(first, second, strict=True)]
    return [(a, b) for a, b in values if a is not None and b is not None]


def _paired(pairs: Sequence[tuple[float, float]], question: Question) -> PairedDifference | None:
    if not pairs:
        return None
    return paired_difference(
        [a for a, _ in pairs],
        [b for _, b in pairs],
        seed=question.seed,
        replicates=question.replicates,
    )


def _corrected(family: Sequence[Difference]) -> list[Difference]:
    """The family with Holm's correction over all of its tests."""
    tested = [
        (place, d.found.p_value)
        for place, d in enumerate(family)
        if d.found is not None and d.found.p_value is not None
    ]
    adjusted = holm([p for _, p in tested])
    by_place = {place: p for (place, _), p in zip(tested, adjusted, strict=True)}
    return [replace(d, adjusted_p=by_place.get(place)) for place, d in enumerate(family)]


def _standing(
    explainer: str,
    rows: Sequence[Row],
    metrics: Sequence[str],
    strata: Mapping[str, str],
    question: Question,
) -> Standing:
    values = {metric: [row.value_of(metric) for row in rows] for metric in metrics}
    grouped = {
        stratum: [row.value_of(question.primary) for row in rows if strata[row.feature] == stratum]
        for stratum in _in_order(Counter(strata.values()))
    }
    shown = [row.values[question.primary] for row in rows if question.primary in row.values]
    return Standing(
        explainer=explainer,
        outcomes=dict(sorted(Counter(row.outcome for row in rows).items())),
        partial=sum(row.partial for row in rows),
        means=_means(values, question),
        by_stratum=_means(grouped, question),
        leakage=_leakage(rows, question),
        spent=_spent(rows),
        judges=sorted({value.judge for value in shown if value.value is not None}),
    )


def _means(
    values: Mapping[str, Sequence[float | None]], question: Question
) -> dict[str, MeanEstimate]:
    """Means by key, those without a single value left out."""
    known = {key: [v for v in listed if v is not None] for key, listed in values.items()}
    return {
        key: bootstrap_mean(listed, seed=question.seed, replicates=question.replicates)
        for key, listed in known.items()
        if listed
    }


def _leakage(rows: Sequence[Row], question: Question) -> Leakage:
    triples = []
    for row in rows:
        found = row.values.get(question.primary)
        if found is None or found.value is None or not {TOP, TABLE} <= found.baselines.keys():
            continue
        triples.append((found.value, found.baselines[TOP], found.baselines[TABLE]))
    if not triples:
        return Leakage(0, None, None, None, None, 0)
    mean, top, table = (sum(column) / len(triples) for column in zip(*triples, strict=True))
    return Leakage(
        count=len(triples),
        top=top,
        table=table,
        gap_closed=(mean - top) / (table - top) if abs(table - top) >= 0.01 else None,
        above_table=_paired([(value, table) for value, _, table in triples], question),
        features_above=sum(value > table for value, _, table in triples),
    )


def _spent(rows: Sequence[Row]) -> Spent:
    costs = [row.cost for row in rows if row.cost is not None]
    if not costs:
        return Spent(None, None, None, None, "", None)
    currencies = {cost.currency for cost in costs if cost.currency}
    known = [cost.money for cost in costs if cost.money is not None]
    priced = len(known) == len(costs) and len(currencies) <= 1
    times = [cost.seconds for cost in costs if cost.seconds is not None]
    return Spent(
        visible_tokens=sum(cost.visible_tokens for cost in costs) / len(costs),
        explaining_tokens=sum(cost.explaining_tokens for cost in costs) / len(costs),
        scoring_tokens=sum(cost.scoring_tokens for cost in costs) / len(costs),
        money=sum(known) / len(known) if priced else None,
        currency=currencies.pop() if priced and currencies else "",
        seconds=sum(times) / len(times) if times else None,
    )
