"""`saexplain compare` against a real server. Guards against runs that are paid for twice,
features that are chosen by hand after the fact, and a failure that looks like a success."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from services.cli.comparison.choosing import Population, draw, parse_features
from services.common.errors import FailedPrecondition, InvalidArgument

Capture = pytest.CaptureFixture[str]
BOTH = ("--explainers", "lexical,sage")
QUICK = ("--samples", 200)


def test_a_comparison_prints_its_tables_and_writes_its_files(
    saexplain: Any, capsys: Capture, tmp_path: Path
) -> None:
    """The made difference is between 0.02 and 0.10; two thirds of the features are paired."""
    assert saexplain("compare", "demo", *BOTH, "--features", "0-5", *QUICK) == 0
    out, err = capsys.readouterr()
    for text in ("sage − lexical", "+0.05", "token table", "Funnel", "eligible", "recall *"):
        assert text in out
    assert "12/12" in err
    assert "12/12" not in out
    folder = tmp_path / "comparison"
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "comparison.md",
        "comparison.tex",
        "comparison.json",
        "comparison.svg",
        "comparison.png",
        "rows.csv",
    }
    assert (folder / "rows.csv").read_text().count("\n") == 13


def test_a_comparison_made_again_asks_for_the_same_runs_and_writes_the_same_bytes(
    saexplain: Any, orchestrator: Any, tmp_path: Path
) -> None:
    """Broken off or repeated: nothing is bought twice, and `--again` is the way to do so."""
    command = ("compare", "demo", *BOTH, "--sample", 3, "--seed", 5, *QUICK)
    assert saexplain(*command, "-o", "one") == 0
    first = sorted(r.request_id for r in orchestrator.requests)
    assert saexplain(*command, "-o", "two") == 0
    assert sorted(r.request_id for r in orchestrator.requests[6:]) == first
    assert len(set(first)) == 6
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name
    assert saexplain(*command, "--again", "x", "-o", "three") == 0
    assert not {r.request_id for r in orchestrator.requests[12:]} & set(first)


def test_features_are_drawn_from_their_stratum_by_seed(saexplain: Any, orchestrator: Any) -> None:
    assert saexplain("compare", "demo", *BOTH, "--sample", 4, "--stratum", "dense", *QUICK) == 0
    drawn = {int(r.feature.rpartition("/")[2]) for r in orchestrator.requests}
    assert len(drawn) == 4
    assert all(index % 3 == 1 for index in drawn)


def test_a_failed_run_is_in_the_table_and_in_the_exit_code(saexplain: Any, capsys: Capture) -> None:
    assert saexplain("compare", "demo", *BOTH, "--features", "1,2,666", *QUICK, "--json") == 1
    document = json.loads(capsys.readouterr().out)
    (primary,) = document["primary"]
    assert (primary["found"]["estimate"]["count"], primary["unpaired"]) == (2, 1)
    assert document["standings"][0]["outcomes"] == {"explained": 2, "failed": 1}
    failed = [row for row in document["rows"] if row["outcome"] == "failed"]
    assert len(failed) == 2
    assert failed[0]["reason"].startswith("LLM_UNAVAILABLE")


def test_a_file_is_an_explainer_beside_ours(
    saexplain: Any, orchestrator: Any, capsys: Capture, tmp_path: Path
) -> None:
    """A feature that the file leaves out is refused in the table, not asked for."""
    rows = [{"index": i, "description": f"about {i}"} for i in (1, 2)]
    (tmp_path / "theirs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    names = "lexical,import:theirs.jsonl"
    assert saexplain("compare", "demo", "--explainers", names, "--features", "1-3", *QUICK) == 1
    given = [r for r in orchestrator.requests if r.explainer.explainer == "import"]
    assert sorted(r.explainer.given_explanation.description for r in given) == [
        "about 1",
        "about 2",
    ]
    assert "NOT_IN_FILE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ((*BOTH, "--features", "1", "--primary", "f1"), "--primary"),
        ((*BOTH, "--features", "1", "--methods", "fuzzing"), "--primary"),
        ((*BOTH, "--features", "1", "--primary", "fuzzing.accuracy"), "--primary"),
        ((*BOTH, "--features", "1", "--judge", "me"), "--judge"),
        (BOTH, "--features"),
        ((*BOTH, "--features", "1", "--sample", "2"), "--features"),
        ((*BOTH, "--sample", "2", "--stratum", "fat"), "--stratum"),
        ((*BOTH, "--features", "5-2"), "--features"),
        ((*BOTH, "--features", "1-9999999"), "--features"),
        ((*BOTH, "--features", "٣"), "--features"),
        (("--explainers", "lexical,lexical", "--features", "1"), "--explainers"),
        ((*BOTH, "--features", "@none.txt"), "--features"),
        (("--explainers", "import:none.csv", "--features", "1"), "--explainers"),
        (("--explainers", "sage:x", "--features", "1"), "--explainers"),
        (("--explainers", ",", "--features", "1"), "--explainers"),
    ],
)
def test_what_cannot_have_an_answer_is_refused_before_anything_is_paid(
    saexplain: Any, orchestrator: Any, capsys: Capture, arguments: tuple[str, ...], field: str
) -> None:
    assert saexplain("compare", "demo", *arguments) == 2
    assert field in capsys.readouterr().err
    assert orchestrator.requests == []


def test_a_metric_that_there_is_none_of_ends_with_those_that_there_are(
    saexplain: Any, orchestrator: Any, capsys: Capture
) -> None:
    """A slip of the pen is found by the first run, not by the last."""
    command = ("compare", "demo", *BOTH, "--features", "0-20", "--at-once", 1)
    assert saexplain(*command, "--primary", "corpus.f2") == 2
    assert "corpus.pearson" in capsys.readouterr().err
    assert len(orchestrator.requests) <= 2


def test_lists_of_features_are_read_with_ranges_and_from_files(tmp_path: Path) -> None:
    assert parse_features("3, 17,20-22 3", 10) == [3, 17, 20, 21, 22]
    path = tmp_path / "f.txt"
    path.write_text("5\n6,7\n")
    assert parse_features(f"@{path}", 10) == [5, 6, 7]
    assert parse_features("1-3 2-4", 4) == [1, 2, 3, 4]
    with pytest.raises(InvalidArgument):
        parse_features("1-3 2-5", 4)


def test_a_draw_depends_on_its_seed_and_on_nothing_else() -> None:
    members = Population(dict.fromkeys(range(50), "eligible") | {60: "too rare"})
    backwards = Population(dict(reversed(members.strata.items())))
    assert draw(members, "eligible", 5, 1) == draw(backwards, "eligible", 5, 1)
    assert draw(members, "eligible", 5, 1) != draw(members, "eligible", 5, 2)
    assert draw(members, "too-rare", 1, 0) == [60]
    with pytest.raises(FailedPrecondition, match="only 1"):
        draw(members, "too rare", 2, 0)
