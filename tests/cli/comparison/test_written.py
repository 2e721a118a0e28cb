"""Guards what a reader or a program gets of a comparison: the same numbers everywhere, no
markup from elsewhere, the same bytes for the same rows."""

from __future__ import annotations

import csv
import io
import json
import xml.etree.ElementTree as ET

import pytest

from services.cli.comparison.plot import draw
from services.cli.comparison.results import compare
from services.cli.comparison.rows import Cost
from services.cli.comparison.written import json_text, latex, markdown, rows_csv
from tests.cli.comparison.rows_made import FEATURES, PRIMARY, question, rows

HOSTILE = "=1+1 | <b>50 % & $x_1$ \\input{x} \x1b[31m"


def test_tables_say_the_same_in_markdown_and_latex() -> None:
    """A number that only one of them has was computed twice."""
    found = compare(rows(), question(), {"dead": 3, "eligible": 90})
    mean = found.primary[0].found
    assert mean is not None
    number = f"+{mean.estimate.mean:.3f}"
    assert f"{number} \\[" in markdown(found)
    assert number in latex(found)
    for text in ("corpus.recall \\*", "| dead | 3 | 0 |", "Holm", "token table"):
        assert text in markdown(found)
    assert latex(found).count(r"\begin{tabular}") == latex(found).count(r"\bottomrule") == 8
    assert r"\cite" not in latex(found)


def test_text_from_elsewhere_breaks_no_table() -> None:
    """A reason or a name may hold anything."""
    found = compare(rows(outcome="failed", reason=HOSTILE, values={}, label=HOSTILE), question())
    (line,) = [line for line in markdown(found).splitlines() if "=1+1" in line]
    assert line.replace("\\|", "").count("|") == 5
    assert "<b>" not in line
    assert "\x1b" not in line + rows_csv(found)
    (first,) = [r for r in csv.DictReader(io.StringIO(rows_csv(found))) if r["outcome"] == "failed"]
    assert first["reason"].startswith("'=")
    assert first["corpus.f1"] == ""
    named = question(explainers=["a", "b"])
    assert r"\input" not in latex(compare(rows(), named))


def test_a_csv_row_carries_the_values_of_its_run() -> None:
    found = compare(rows(), question())
    listed = list(csv.DictReader(io.StringIO(rows_csv(found))))
    assert len(listed) == 48
    last = listed[-1]
    assert (last["explainer"], last["feature"]) == ("b", FEATURES[-1])
    assert float(last[PRIMARY]) == rows()[-1].value_of(PRIMARY)
    assert (last["visible_tokens"], last["money"], last["seconds"]) == ("900", "0.01", "3.5")


def test_the_same_rows_give_the_same_bytes_and_a_seed_changes_them() -> None:
    """Whoever checks a comparison runs it again."""
    one, two = (compare(rows(), question()) for _ in range(2))
    assert json_text(one) == json_text(two)
    assert markdown(one) == markdown(two)
    assert draw(one, "svg") == draw(two, "svg")
    assert draw(one, "png") == draw(two, "png")
    assert json_text(compare(rows(), question(seed=8))) != json_text(one)


def test_the_plot_is_a_picture_whatever_is_missing() -> None:
    """Nothing explained at all, prices unknown, `$` in a name: the plot still tells it."""
    root = ET.fromstring(draw(compare(rows(), question()), "svg"))
    assert root.tag.endswith("svg")
    nothing = [
        type(r)(
            **{**vars(r), "values": {}, "outcome": "failed", "cost": Cost(1, 2, 3, None, "", None)}
        )
        for r in rows()
    ]
    assert draw(compare(nothing, question()), "png").startswith(b"\x89PNG")


def test_json_is_one_document_by_the_names_of_the_code() -> None:
    document = json.loads(json_text(compare(rows(), question())))
    assert document["question"]["primary"] == PRIMARY
    assert document["primary"][0]["found"]["estimate"]["kind"] == "bootstrap_bca"
    assert document["flagged"] == ["corpus.recall"]


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_no_time_is_in_the_picture(kind: str) -> None:
    assert b"20" + b"26-" not in draw(compare(rows(), question()), kind)
