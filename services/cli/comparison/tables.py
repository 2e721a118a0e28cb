"""The tables of a comparison as plain cells; Markdown, LaTeX and the terminal show the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.cli.comparison.model import Comparison, Difference, Spent, Standing
from services.cli.report.formats import MISSING, number
from services.common.statistics.paired import MeanEstimate

_DIGITS = 3
_FEW = 6


@dataclass(frozen=True)
class TextTable:
    """A table of text.

    Attributes:
        title: what it is.
        note: what a reader has to know; empty where nothing.
        header: titles of the columns; the first column is text, the others are numbers
            unless `prose`.
        rows: cells, as many as the header has.
        prose: whether all columns are text.
    """

    title: str
    note: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    prose: bool = False


def all_tables(comparison: Comparison) -> list[TextTable]:
    """All tables, in the order of reading; those without a row are left out."""
    tables = [
        quality(comparison),
        primary_differences(comparison),
        beside_trivial(comparison),
        cost(comparison),
        other_metrics(comparison),
        other_differences(comparison),
        strata(comparison),
        funnel(comparison),
        failures(comparison),
    ]
    return [table for table in tables if table.rows]


def quality(comparison: Comparison) -> TextTable:
    """How every explainer does on the primary metric, and how often it has an answer."""
    question = comparison.question
    note = "Mean over the features with a value; 95 % interval by bootstrap over features."
    if comparison.mixed_judges:
        note += " Judges differ between explainers: the difference is also one of judges."
    return TextTable(
        title=f"{shown(question.primary, comparison)} of {len(question.features)} features",
        note=note,
        header=("explainer", "mean", "features", "explained", "partial", "other ends", "judge"),
        rows=[_quality_row(standing, question.primary) for standing in comparison.standings],
    )


def _quality_row(standing: Standing, primary: str) -> tuple[str, ...]:
    mean = standing.means.get(primary)
    explained = standing.outcomes.get("explained", 0) + standing.outcomes.get("positional", 0)
    rest = [
        f"{count} {outcome}"
        for outcome, count in standing.outcomes.items()
        if outcome not in ("explained", "positional")
    ]
    return (
        standing.explainer,
        estimate(mean),
        str(mean.count if mean else 0),
        f"{explained} of {standing.count()}",
        str(standing.partial),
        ", ".join(rest) or "none",
        ", ".join(standing.judges) or MISSING,
    )


def primary_differences(comparison: Comparison) -> TextTable:
    """The answer to the question."""
    note = "Paired over features; p of the sign-flip test"
    note += ", Holm's correction among these." if len(comparison.primary) > 1 else "."
    pairs = [d.found.estimate.count for d in comparison.primary if d.found is not None]
    if pairs and min(pairs) < _FEW:
        note += f" With fewer than {_FEW} pairs no p-value can reach 0.05: claim nothing."
    return TextTable(
        title=f"Differences in {shown(comparison.question.primary, comparison)}",
        note=note,
        header=("explainer − reference", "difference", "pairs", "unpaired", "p", "p (Holm)"),
        rows=[
            (f"{d.explainer} − {d.reference}", *_difference_cells(d)) for d in comparison.primary
        ],
    )


def other_differences(comparison: Comparison) -> TextTable:
    """All other metrics, corrected for their number."""
    tested = sum(d.adjusted_p is not None for d in comparison.others)
    return TextTable(
        title="Differences in all other metrics",
        note=f"Holm's correction over {tested} tests. {_FLAG_NOTE}",
        header=("metric", "explainer − reference", "difference", "pairs", "unpaired", "p", "Holm"),
        rows=[
            (
                shown(d.metric, comparison),
                f"{d.explainer} − {d.reference}",
                *_difference_cells(d),
            )
            for d in comparison.others
            if d.found is not None
        ],
    )


def _difference_cells(difference: Difference) -> tuple[str, ...]:
    found = difference.found
    if found is None:
        return MISSING, "0", str(difference.unpaired), MISSING, MISSING
    return (
        estimate(found.estimate, signed=True),
        str(found.estimate.count),
        str(difference.unpaired),
        p_value(found.p_value),
        p_value(difference.adjusted_p),
    )


def beside_trivial(comparison: Comparison) -> TextTable:
    """What the commonest token and a table of tokens reach on the same items: an explanation
    that is worth no more than its evidence shows here."""
    rows = []
    for standing in comparison.standings:
        found = standing.leakage
        above = found.above_table
        rows.append(
            (
                standing.explainer,
                number(found.top, _DIGITS),
                number(found.table, _DIGITS),
                number(found.gap_closed),
                MISSING if above is None else estimate(above.estimate, signed=True),
                f"{found.features_above} of {found.count}",
                "yes" if found.beats_table else "no",
            )
        )
    return TextTable(
        title=f"Beside trivial explanations, {shown(comparison.question.primary, comparison)}",
        note="Token table: mean activation per token, fitted on EXPLAIN. Above it: the "
        "interval of the paired difference lies above 0, and its p-value is at most 0.05.",
        header=(
            "explainer",
            "top token",
            "token table",
            "gap closed",
            "difference to table",
            "features above",
            "above it",
        ),
        rows=rows if any(s.leakage.count for s in comparison.standings) else [],
    )


def cost(comparison: Comparison) -> TextTable:
    """What a feature costs, failed runs and repeated calls included."""
    return TextTable(
        title="Cost per feature",
        note="Means over all runs, failed ones and repeated calls included. Visible: without "
        "reasoning. Money is of the whole run, scoring included; ? where a price is not known.",
        header=(
            "explainer",
            "tokens, visible",
            "tokens, with reasoning",
            "tokens of scoring",
            "money",
            "seconds",
        ),
        rows=[(s.explainer, *_cost_cells(s.spent)) for s in comparison.standings],
    )


def _cost_cells(spent: Spent) -> tuple[str, ...]:
    counts = (spent.visible_tokens, spent.explaining_tokens, spent.scoring_tokens)
    return (
        *(MISSING if count is None else f"{count:,.0f}" for count in counts),
        money(spent),
        number(spent.seconds, 1),
    )


def money(spent: Spent) -> str:
    """Money per feature; `?` where it is not known, 0 where nothing was bought."""
    if spent.money is None:
        return MISSING if spent.visible_tokens is None else "?"
    return f"{spent.money:.4f} {spent.currency}" if spent.currency else "0"


def other_metrics(comparison: Comparison) -> TextTable:
    """Means of the other metrics, a column per explainer."""
    rest = comparison.metrics[1:]
    return TextTable(
        title="All other metrics",
        note=f"Mean over the features with a value, and their number. {_FLAG_NOTE}",
        header=("metric", *(s.explainer for s in comparison.standings)),
        rows=[
            (
                shown(metric, comparison),
                *(_counted(s.means.get(metric)) for s in comparison.standings),
            )
            for metric in rest
        ],
    )


def strata(comparison: Comparison) -> TextTable:
    """The primary metric per group of the funnel."""
    return TextTable(
        title=f"{shown(comparison.question.primary, comparison)} by stratum of density",
        note="",
        header=("stratum", "features", *(s.explainer for s in comparison.standings)),
        rows=[
            (
                stratum,
                str(count),
                *(_counted(s.by_stratum.get(stratum)) for s in comparison.standings),
            )
            for stratum, count in comparison.strata.items()
        ],
    )


def funnel(comparison: Comparison) -> TextTable:
    """Which features there are, and which of them were compared."""
    names = dict.fromkeys([*comparison.funnel, *comparison.strata])
    return TextTable(
        title="Funnel",
        note="Features of the index, and those compared.",
        header=("stratum", "in the index", "compared"),
        rows=[
            (name, str(comparison.funnel.get(name, 0)), str(comparison.strata.get(name, 0)))
            for name in names
        ]
        if comparison.funnel
        else [],
    )


def failures(comparison: Comparison) -> TextTable:
    """Every run without an explanation, and why."""
    return TextTable(
        title="Without an explanation",
        note="",
        header=("explainer", "feature", "end", "reason"),
        rows=[
            (row.explainer, row.feature.rpartition("/")[2], row.outcome, row.reason or MISSING)
            for row in comparison.failures
        ],
        prose=True,
    )


_FLAG_NOTE = "* does not fall when a part is missing or an unrelated one is added."


def shown(metric: str, comparison: Comparison) -> str:
    """A metric's name with its flag."""
    return f"{metric} *" if metric in comparison.flagged else metric


def estimate(found: MeanEstimate | None, *, signed: bool = False) -> str:
    """A mean with its interval."""
    if found is None:
        return MISSING
    values = _numbers((found.mean, found.low, found.high), signed=signed)
    mean, low, high = values
    return mean if found.low is None else f"{mean} [{low}, {high}]"


def _counted(found: MeanEstimate | None) -> str:
    return MISSING if found is None else f"{number(found.mean, _DIGITS)} ({found.count})"


def _numbers(values: Iterable[float | None], *, signed: bool) -> list[str]:
    plus = "+" if signed else ""
    return [
        f"{plus}{number(v, _DIGITS)}" if v is not None and v > 0 else number(v, _DIGITS)
        for v in values
    ]


def p_value(value: float | None) -> str:
    """Three digits, and a bound below a thousandth."""
    if value is None:
        return MISSING
    return "< 0.001" if value < 0.001 else number(value, _DIGITS)
