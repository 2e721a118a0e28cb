"""A comparison as text: Markdown to read, LaTeX (booktabs) for a paper, CSV and JSON to
compute with. Text from elsewhere is escaped in each."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from typing import Any

from services.cli.comparison.model import Comparison
from services.cli.comparison.rows import Cost
from services.cli.comparison.tables import TextTable, all_tables
from services.cli.visible import visible_text

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "−": "$-$",
    "–": "--",
    "τ": r"$\tau$",
    "\u202f": r"\,",
}


def markdown(comparison: Comparison) -> str:
    """All tables, with how they came about."""
    question = comparison.question
    lines = [
        f"# {' against '.join(_md(name) for name in question.explainers)}",
        "",
        f"{len(question.features)} features. Primary metric, named beforehand: "
        f"`{question.primary}`. Reference: `{question.explainers[0]}`. "
        f"Seed {question.seed}, {question.replicates:,} resamples over features.",
    ]
    for table in all_tables(comparison):
        lines += ["", f"## {_md(table.title)}", ""]
        lines += ["| " + " | ".join(map(_md, table.header)) + " |"]
        rule = ["---" if table.prose or not place else "---:" for place in range(_width(table))]
        lines += ["| " + " | ".join(rule) + " |"]
        lines += ["| " + " | ".join(map(_md, row)) + " |" for row in table.rows]
        if table.note:
            lines += ["", _md(table.note)]
    return "\n".join(lines) + "\n"


def latex(comparison: Comparison) -> str:
    """The tables of numbers, each a `table` of package booktabs."""
    parts = ["% Needs \\usepackage{booktabs}."]
    for table in all_tables(comparison):
        if table.prose:
            continue
        caption = f"{table.title}. {table.note}".replace("..", ".").strip()
        parts += [
            r"\begin{table}[t]",
            r"  \centering",
            rf"  \caption{{{_tex(caption)}}}",
            rf"  \begin{{tabular}}{{l{'r' * (_width(table) - 1)}}}",
            r"    \toprule",
            f"    {_tex_row(table.header)}",
            r"    \midrule",
            *(f"    {_tex_row(row)}" for row in table.rows),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    return "\n".join(parts).rstrip() + "\n"


def rows_csv(comparison: Comparison) -> str:
    """A line per explainer and feature; an empty cell where there is no value."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    columns = ("explainer", "feature", "name", "stratum", "outcome", "reason", "partial", "label")
    costs = [field.name for field in dataclasses.fields(Cost)]
    writer.writerow([*columns, *costs, *comparison.metrics])
    for row in comparison.rows:
        cost = {} if row.cost is None else dataclasses.asdict(row.cost)
        writer.writerow(
            [
                *(_cell(getattr(row, column)) for column in columns),
                *(_cell(cost.get(name)) for name in costs),
                *(_cell(row.value_of(metric)) for metric in comparison.metrics),
            ]
        )
    return out.getvalue()


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Everything, by the names of the code."""
    document = dataclasses.asdict(comparison)
    document["flagged"] = sorted(comparison.flagged)
    return document


def json_text(comparison: Comparison) -> str:
    """`as_json` as text, keys in order."""
    return json.dumps(as_json(comparison), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _cell(value: object) -> str:
    """A cell; one that a spreadsheet would run as a formula is quoted."""
    if value is None:
        return ""
    text = visible_text(value) if isinstance(value, str) else str(value)
    return f"'{text}" if isinstance(value, str) and text[:1] in ("=", "+", "-", "@") else text


def _width(table: TextTable) -> int:
    return len(table.header)


def _md(text: str) -> str:
    escaped = visible_text(text).replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
    return escaped.replace("<", "&lt;").replace(" *", " \\*").replace("[", "\\[")


def _tex(text: str) -> str:
    return "".join(_LATEX.get(c, c) for c in visible_text(text).replace("\n", " "))


def _tex_row(cells: Any) -> str:
    return " & ".join(map(_tex, cells)) + r" \\"
