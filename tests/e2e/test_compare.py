"""Two explainers side by side on real parts, and what they left scored again. Load-bearing:
a comparison made again buys nothing and writes the same bytes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.e2e.features import SAE
from tests.e2e.provider import Provider
from tests.e2e.running import RunningStack, saexplain

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]


def test_two_explainers_on_three_features_and_the_same_again(
    stack: RunningStack, provider: Provider, tmp_path: Path
) -> None:
    command = (
        *("compare", SAE, "--explainers", "lexical,one_shot", "--sample", "3", "--seed", "2"),
        *("--methods", "corpus", "--rounds", "1", "--samples", "200"),
    )
    first = saexplain(*command, "-o", str(tmp_path / "one"), state=stack.state)
    assert first.returncode == 0, first.stderr + first.stdout + stack.logs()
    assert "one_shot − lexical" in first.stdout
    calls = provider.call_count()

    again = saexplain(*command, "-o", str(tmp_path / "two"), state=stack.state)
    assert again.returncode == 0, again.stderr
    assert provider.call_count() == calls
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name

    rows = list(csv.DictReader((tmp_path / "one" / "rows.csv").open(encoding="utf-8")))
    assert [row["stratum"] for row in rows] == ["eligible"] * 6
    by_explainer = {row["explainer"]: row for row in rows if row["corpus.f1"]}
    assert by_explainer["lexical"]["explaining_tokens"] == "0"
    assert int(by_explainer["one_shot"]["explaining_tokens"]) > 1000
    assert int(by_explainer["one_shot"]["scoring_tokens"]) > 0

    name = by_explainer["lexical"]["name"]
    scored = saexplain("score", name, "--methods", "detection", "--json", state=stack.state)
    assert scored.returncode == 0, scored.stderr
    (document,) = json.loads(scored.stdout)["explanations"]
    assert (document["scored_explanation"], document["scores_only"]) == (name, True)
    assert {score["method"] for score in document["scores"]} == {"detection"}
    report = saexplain(
        "report", document["name"], "-o", str(tmp_path / "r.html"), state=stack.state
    )
    assert report.returncode == 0, report.stderr
