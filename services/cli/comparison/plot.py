"""The picture of a comparison: quality beside trivial explanations, paired differences, and
cost beside quality. SVG and PNG; the same comparison gives the same bytes."""

from __future__ import annotations

import io
from typing import Any

from services.cli.comparison.model import Comparison, Standing
from services.common.statistics.paired import MeanEstimate

_INK, _PALE, _ACCENT = "#1f2430", "#9aa0ab", "#2f6fb0"
_TOP, _TABLE = "#c9a227", "#b5533c"
_SETTINGS: Any = {
    # Ids inside of a SVG are hashes; salted by chance unless told otherwise.
    "svg.hashsalt": "saexplain",
    "svg.fonttype": "path",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _PALE,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
}


def draw(comparison: Comparison, kind: str) -> bytes:
    """The plot.

    Args:
        kind: `svg` or `png`.
    """
    # Half a second to import: only for who draws.
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(_SETTINGS):
        height = 1.6 + 0.42 * max(3, len(comparison.standings))
        figure = Figure(figsize=(11, height), layout="constrained")
        FigureCanvasAgg(figure)
        quality, differences, costs = figure.subplots(1, 3, width_ratios=[1.1, 1, 1])
        _quality(quality, comparison)
        _differences(differences, comparison)
        _costs(costs, comparison)
        out = io.BytesIO()
        # A date or a version inside would make equal results differ.
        nothing: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(out, format=kind, dpi=150, metadata=nothing)
        return out.getvalue()


def _quality(axes: Any, comparison: Comparison) -> None:
    names = [s.explainer for s in comparison.standings]
    for place, standing in enumerate(comparison.standings):
        _interval(axes, place, standing.means.get(comparison.question.primary), _ACCENT)
        found = standing.leakage
        for value, colour, mark in ((found.top, _TOP, "|"), (found.table, _TABLE, "D")):
            if value is not None:
                axes.plot(value, place, mark, color=colour, markersize=9 if mark == "|" else 4)
    _rows(axes, names)
    axes.set_title(f"{comparison.question.primary}: mean over features")
    axes.plot([], [], "o", color=_ACCENT, label="explainer, 95 %")
    axes.plot([], [], "|", color=_TOP, label="top token", markersize=9)
    axes.plot([], [], "D", color=_TABLE, label="token table", markersize=4)
    axes.figure.legend(loc="outside lower left", ncols=3, frameon=False, fontsize=8)


def _differences(axes: Any, comparison: Comparison) -> None:
    axes.axvline(0, color=_PALE, linewidth=1, zorder=0)
    names = []
    for place, difference in enumerate(comparison.primary):
        estimate = difference.found.estimate if difference.found else None
        _interval(axes, place, estimate, _INK)
        pairs = estimate.count if estimate else 0
        names.append(f"{difference.explainer}\n({pairs} pairs)")
    _rows(axes, names)
    axes.set_title(f"Paired difference to {comparison.question.explainers[0]}")


def _interval(axes: Any, place: int, found: MeanEstimate | None, colour: str) -> None:
    if found is None:
        axes.text(0.02, place, "no value", color=_PALE, va="center", fontsize=8)
        return
    axes.plot(found.mean, place, "o", color=colour, markersize=5)
    if found.low is not None and found.high is not None:
        axes.plot([found.low, found.high], [place, place], color=colour, linewidth=1.6)


def _rows(axes: Any, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), [name.replace("$", r"\$") for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#e4e6ea", linewidth=0.8)
    axes.set_axisbelow(True)


def _costs(axes: Any, comparison: Comparison) -> None:
    primary = comparison.question.primary
    drawn = [(s, s.means[primary]) for s in comparison.standings if primary in s.means]
    for standing, found in drawn:
        tokens = standing.spent.explaining_tokens or 0.0
        axes.plot(tokens, found.mean, "o", color=_ACCENT, markersize=5)
        if found.low is not None and found.high is not None:
            axes.plot([tokens, tokens], [found.low, found.high], color=_ACCENT, linewidth=1.6)
        axes.annotate(
            _with_money(standing).replace("$", r"\$"),
            (tokens, found.mean),
            xytext=(6, 4),
            textcoords="offset points",
            fontsize=8,
            color=_INK,
        )
    if any((s.spent.explaining_tokens or 0) > 0 for s, _ in drawn):
        # Free explainers stand at 0, which no logarithm has.
        axes.set_xscale("symlog", linthresh=1000)
        axes.set_xlim(left=-50)
    axes.set_title("Cost beside quality")
    axes.set_xlabel("tokens per feature while explaining, with reasoning")
    axes.set_ylabel(primary)
    axes.margins(x=0.25, y=0.2)
    axes.grid(color="#e4e6ea", linewidth=0.8)
    axes.set_axisbelow(True)


def _with_money(standing: Standing) -> str:
    spent = standing.spent
    if spent.money is None or not spent.currency:
        return standing.explainer
    return f"{standing.explainer} ({spent.money:.3f} {spent.currency})"
