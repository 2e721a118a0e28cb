"""The command line against a real server: results, streams, exit codes.

Load-bearing: with --json, stdout is one JSON document and nothing else, in every case.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

Capture = pytest.CaptureFixture[str]


def test_explain_prints_a_table_with_scores_intervals_and_gap(
    saexplain: Any, capsys: Capture
) -> None:
    """The table is the answer; the progress must not be mixed into it."""
    assert saexplain("explain", "demo", 7, 8) == 0
    out, err = capsys.readouterr()
    assert "0.74 [0.68, 0.79]" in out
    assert "0.69 [0.63, 0.74]" in out
    assert "1.08" in out
    assert "explained" in out
    assert "score.corpus" in err
    assert "score.corpus" not in out


def test_text_from_elsewhere_is_no_markup_and_moves_no_cursor(
    saexplain: Any, capsys: Capture
) -> None:
    """A label comes from a corpus or a language model."""
    assert saexplain("explain", "demo", 7) == 0
    assert saexplain("show", "e7") == 0
    assert saexplain("list") == 0
    out = capsys.readouterr().out
    assert out.count("[bold red]not markup[/]") == 5
    assert "\x1b" not in out


def test_the_request_carries_what_the_command_line_says(saexplain: Any, orchestrator: Any) -> None:
    """An option that is not passed on is worse than none."""
    options = ("--methods", "corpus,generative", "--seed", 5, "--rounds", 2, "--request-id", "r")
    assert (
        saexplain("explain", "saes/demo", 7, 7, "--explainer", "sage", "--model", "m", *options)
        == 0
    )
    (request,) = orchestrator.requests
    assert request.feature == "saes/demo/features/7"
    assert request.request_id == "r-7"
    assert (request.seed, request.explainer.seed) == (5, 5)
    assert request.explainer.explainer == "sage"
    assert request.explainer.llm.model == "m"
    assert request.budget.max_round_count == 2
    methods = [(m.method, m.judge, m.llm.model) for m in request.methods]
    assert methods == [("corpus", "llm", "m"), ("generative", "llm", "m")]


def test_explain_json_is_one_document_and_the_report_is_written(
    saexplain: Any, capsys: Capture, tmp_path: Path
) -> None:
    """Machines read stdout; people read the file."""
    assert saexplain("explain", "demo", 7, 8, "--json", "--report", "out.html") == 0
    document = json.loads(capsys.readouterr().out)
    assert [e["feature"] for e in document["explanations"]] == [
        "saes/demo/features/7",
        "saes/demo/features/8",
    ]
    assert document["explanations"][0]["scores"][0]["value"] == 0.74
    assert "features/8" in (tmp_path / "out.html").read_text()


def test_a_failed_run_exits_with_1_and_says_why(saexplain: Any, capsys: Capture) -> None:
    """One failure among several must not look like success, nor hide the others."""
    assert saexplain("explain", "demo", 666, 7) == 1
    out = capsys.readouterr().out
    assert "LLM_UNAVAILABLE" in out
    assert "0.74" in out


def test_a_refused_feature_exits_with_2_names_the_field_and_spares_the_others(
    saexplain: Any, capsys: Capture
) -> None:
    """Invalid arguments are the caller's to mend: reason, field and what to do."""
    assert saexplain("explain", "demo", 5000, 7) == 2
    out, err = capsys.readouterr()
    assert "FEATURE_OUT_OF_RANGE (feature): index is not below 4608" in err
    assert "one below the size of the SAE" in err
    assert "0.74" in out
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["show", "nobody"], 4, "RESOURCE_NOT_FOUND"),
        (["show", "Not/A/Name"], 2, "FIELD_INVALID"),
        (["explain", "Bad Name", "3"], 2, "FIELD_INVALID"),
        (["explain", "demo", "--", "-3"], 2, "FIELD_INVALID"),
        (["list", "--run-state", "odd"], 2, "FIELD_INVALID"),
        (["show", "e7", "--address", "127.0.0.1:1"], 3, ""),
    ],
)
def test_errors_have_their_exit_code_and_are_json_where_json_is_wanted(
    saexplain: Any, capsys: Capture, arguments: list[str], code: int, reason: str
) -> None:
    """Scripts tell 'not there' from 'not up' by the code alone."""
    assert saexplain(arguments[0], "--json", *arguments[1:]) == code
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["reason"] == reason
    assert err.startswith("error: ")
    assert "Traceback" not in err


def test_bad_usage_exits_with_2(saexplain: Any, capsys: Capture) -> None:
    """As the shell's own tools do."""
    assert saexplain("explain", "demo") == 2
    assert saexplain("explain", "demo", "seven") == 2
    assert saexplain("no-such-command") == 2
    assert capsys.readouterr().out == ""


def test_without_a_stack_the_way_out_is_named(
    saexplain: Any, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """'Connection refused' tells nobody what to do."""
    monkeypatch.delenv("SAEXPLAIN_ADDRESS")
    assert saexplain("list") == 3
    assert "saexplain up" in capsys.readouterr().err
    assert saexplain("down") == 0


def test_show_tells_label_scores_and_baselines(saexplain: Any, capsys: Capture) -> None:
    """A name in full and an id alone are the same."""
    assert saexplain("show", "projects/default/explanations/e7") == 0
    out = capsys.readouterr().out
    for expected in ("corpus f1", "0.35", "0.71", "109/600/3/0", "undefined", "recall *"):
        assert expected in out
    assert saexplain("show", "e7", "--dossier") == 0
    assert json.loads(capsys.readouterr().out)["dossier"]["stop_reason"] == "STOP_REASON_DECIDED"


def test_list_is_newest_first_and_keeps_to_its_limit(saexplain: Any, capsys: Capture) -> None:
    """A limit below a page must hold too."""
    assert saexplain("list", "--limit", 2, "--json") == 0
    names = [e["name"][-2:] for e in json.loads(capsys.readouterr().out)["explanations"]]
    assert names == ["e3", "e2"]


def test_report_writes_the_file_it_was_asked_for(saexplain: Any, tmp_path: Path) -> None:
    """Several explanations, one file."""
    assert saexplain("report", "e1", "e2", "-o", "both.html") == 0
    html = (tmp_path / "both.html").read_text()
    assert "features/1" in html
    assert "features/2" in html


def test_an_index_is_built_and_waited_for(
    saexplain: Any, capsys: Capture, orchestrator: Any
) -> None:
    """The end of the build is the end of the command."""
    assert saexplain("index", "create", "demo", "c.jsonl", "--max-documents", 60, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["state"] == "RUN_STATE_SUCCEEDED"
    assert orchestrator.index_polls == 2
    assert saexplain("index", "create", "demo", "c.jsonl", "--no-wait", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["config"]["corpus"] == "c.jsonl"
    assert document["state"] == "RUN_STATE_PENDING"
    assert saexplain("index", "list") == 0
