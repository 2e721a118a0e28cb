"""`saexplain score`. Guards against scores of another explanation than the one named, and a
precision that is promised without data."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from saexplain.common.v1.score_pb2 import Interval, Score
from services.cli.precision import needs
from services.common.errors import FailedPrecondition

Capture = pytest.CaptureFixture[str]


def test_a_stored_explanation_is_scored_by_name_and_shown_with_baselines(
    saexplain: Any, orchestrator: Any, capsys: Capture
) -> None:
    """An explanation with a pattern is judged by it unless a judge is named."""
    assert saexplain("score", "e7", "--methods", "corpus,fuzzing", "--seed", 3) == 0
    (request,) = orchestrator.score_requests
    assert request.explanation == "projects/default/explanations/e7"
    assert [(m.method, m.judge, m.seed) for m in request.methods] == [
        ("corpus", "pattern", 3),
        ("fuzzing", "pattern", 3),
    ]
    out = capsys.readouterr().out
    for text in ("corpus f1", "0.74 [0.68, 0.79]", "0.35", "0.71", "recall *"):
        assert text in out
    assert saexplain("score", "e7", "--methods", "corpus", "--judge", "llm", "--model", "m") == 0
    (options,) = orchestrator.score_requests[1].methods
    assert (options.judge, options.llm.model) == ("llm", "m")


def test_a_file_is_scored_row_by_row(
    saexplain: Any, orchestrator: Any, capsys: Capture, tmp_path: Path
) -> None:
    """Neuronpedia's export, JSON Lines or CSV: each becomes a run of its own."""
    (tmp_path / "x.csv").write_text("index,description\n7,time of day\n8,almost\n")
    assert saexplain("score", "--file", "x.csv", "--sae", "demo", "--json") == 0
    given = sorted(
        (r.given.feature, r.given.explanation.description) for r in orchestrator.score_requests
    )
    assert given == [("saes/demo/features/7", "time of day"), ("saes/demo/features/8", "almost")]
    assert len({r.request_id for r in orchestrator.score_requests}) == 2
    assert len(json.loads(capsys.readouterr().out)["explanations"]) == 2


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), 2),
        (("e7", "--file", "none.csv"), 2),
        (("--file", "none.csv"), 2),
        (("nobody",), 4),
        (("e7", "--judge", "llm"), 2),
        (("e7", "--judge", "me", "--methods", "corpus"), 2),
        (("--precision", "0"), 2),
        (("--precision", "nan"), 2),
        (("e7", "--precision", "0.7"), 2),
    ],
)
def test_what_is_wrong_is_refused(
    saexplain: Any, orchestrator: Any, arguments: tuple[str, ...], code: int
) -> None:
    assert saexplain("score", *arguments) == code
    assert orchestrator.score_requests == []


def test_a_precision_without_scores_says_examples_and_no_features(
    saexplain: Any, capsys: Capture
) -> None:
    """± 0.05 of a share of one half: the textbook's 385 less Wilson's four."""
    assert saexplain("score", "--precision", 0.05, "--json") == 0
    found = json.loads(capsys.readouterr().out)["needs"]
    assert found["a share of 0.5"]["examples_per_feature"] == 381
    assert found["a share of 0.5"]["features"] is None


def test_a_precision_with_names_reads_their_scores_and_runs_nothing(
    saexplain: Any, orchestrator: Any, capsys: Capture
) -> None:
    assert saexplain("score", "e7", "e8", "--precision", 0.05, "--json") == 0
    found = json.loads(capsys.readouterr().out)["needs"]
    assert "corpus.f1" in found
    assert found["corpus.f1"]["examples_per_feature"] > 100
    assert "predictive.pearson_mean" not in found
    assert orchestrator.score_requests == orchestrator.requests == []
    assert saexplain("score", "e666", "--precision", 0.05) != 0


def test_the_spread_of_features_decides_how_many_are_needed() -> None:
    """By hand: standard deviation 0.2 of the values, t of n - 1 degrees, half-width 0.1."""
    values = [0.3, 0.5, 0.7, 0.5 - 0.2 * math.sqrt(1), 0.5 + 0.2 * math.sqrt(1)]
    scores = [
        [
            Score(
                method="corpus",
                metric="f1",
                value=value,
                interval=Interval(low=value - 0.01, high=value + 0.01),
                positive_count=50,
                negative_count=50,
            )
        ]
        for value in values
    ]
    found = needs(scores, 0.1)["corpus.f1"]
    # s = 0.2: 18 features give t(17) 0.2 / sqrt(18) = 0.0995, 17 give 0.1028.
    assert found.features == 18
    with pytest.raises(FailedPrecondition):
        needs([[Score(method="corpus", metric="f1")]], 0.1)
