"""Guards what the model reads: marks at the right tokens, whitespace visible, one line
per text, and characters that are split over tokens put together again."""

from __future__ import annotations

import pytest

from saexplain.agent.v1.agent_pb2 import Evidence
from services.agent.explainers.sage.render import (
    EvidenceView,
    mark,
    marked,
    show_result,
    visible,
)
from tests.agent.builders import evidence, result, window


@pytest.mark.parametrize(
    ("activation", "expected"),
    [(0.0, 0), (0.3, 0), (0.4, 1), (4.0, 5), (8.0, 10), (12.0, 10)],
)
def test_a_mark_is_tenths_of_the_reference_maximum(activation: float, expected: int) -> None:
    assert mark(activation, 8.0) == expected


def test_a_feature_without_a_unit_has_no_marks() -> None:
    assert mark(3.0, 0.0) == 0


def test_firing_tokens_are_marked_and_their_spaces_visible() -> None:
    assert marked([b"He", b" almost", b" fell"], [0, 10, 0]) == "He«␣almost»10 fell"
    assert marked([b" He", b"\n", b"  ", b"x"], [0, 3, 2, 0]) == "␣He«↵»3«␣␣»2x"


def test_a_character_that_two_tokens_share_is_whole() -> None:
    first, second = "é".encode()[:1], "é".encode()[1:]
    assert marked([b"caf", first, second, b"!"], [0, 0, 0, 4]) == "café«!»4"


@pytest.mark.parametrize(
    "text",
    ["a\nb", "a\r\nb", "a\tb", "a\x00b", "a\u2028b", "a\x1b[0mb", "a\x85b"],
)
def test_no_text_can_look_like_another_line_of_the_prompt(text: str) -> None:
    shown = visible(text)
    assert len(shown.splitlines()) == 1
    assert shown.isprintable()


def test_marks_of_a_corpus_text_cannot_be_forged() -> None:
    assert "«" not in marked(["a «b»9 c".encode()], [0])


def test_windows_get_short_names_that_lead_back() -> None:
    view = EvidenceView.of(evidence())
    assert [w.alias for w in view.windows] == ["w1", "w2", "w3", "w4", "w5", "w6"]
    assert view.windows[0].text.startswith("He was«␣almost»10 asleep")
    assert view.names(["w2", "w99", "w2", " w1"]) == [
        "indexes/i1/windows/11",
        "indexes/i1/windows/10",
    ]
    assert [w.alias for w in view.near_misses()] == ["w5", "w6"]


def test_a_window_of_two_selections_is_shown_once() -> None:
    seen = evidence()
    seen.windows[1].windows.append(seen.windows[0].windows[0])
    assert len(EvidenceView.of(seen).windows) == 6


def test_tokens_that_fire_are_counted_against_where_they_stand() -> None:
    rows = EvidenceView.of(evidence()).tokens
    assert [(r.token, r.mean_mark, r.fired_count, r.count) for r in rows] == [
        ("␣almost", 10.0, 4, 4),
        ("␣nearly", 4.0, 1, 1),
    ]


def test_long_windows_are_cut_around_their_peak() -> None:
    text = " ".join([*(f"l{n}" for n in range(60)), "PEAK", *(f"r{n}" for n in range(60))])
    seen = Evidence(windows=evidence().windows[:1], facts=evidence().facts)
    del seen.windows[0].windows[:]
    seen.windows[0].windows.append(window(1, text, {"PEAK": 8.0}, 1))
    (shown,) = EvidenceView.of(seen).windows
    assert shown.text.startswith("␣l40 ")
    assert shown.text.endswith("«␣PEAK»10 r0 r1 r2 r3 r4 r5 r6 r7")


def test_a_result_shows_prediction_outcome_and_marks() -> None:
    shown = show_result(result("p1.1", "h1", "It was almost ten", activations={"almost": 4.0}), 8.0)
    assert (shown.prediction, shown.outcome, shown.peak) == ("active", "active", 5)
    assert shown.text == "It was«␣almost»5 ten"
