"""Guards what the model reads: marks at the right tokens, whitespace visible, one line
per text, and characters that are split over tokens put together again."""

from __future__ import annotations

import pytest

from saexplain.agent.v1.agent_pb2 import Evidence
from saexplain.common.v1 import experiment_pb2 as experiment
from saexplain.common.v1.vocabulary_pb2 import CARRIER_KIND_BARE, CARRIER_KIND_SHORT
from saexplain.common.v1.window_pb2 import WINDOW_STRATEGY_NEAR_MISS, WINDOW_STRATEGY_QUANTILE
from services.agent.explainers.llm.render import mark, marked, show_result, visible
from services.agent.explainers.llm.views import EvidenceView
from services.agent.explainers.llm.vocabulary import neighbor_lines, vocabulary_lines
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
    assert [w.alias for w in view.near_misses(9)] == ["w5", "w6"]


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
    assert shown.text.endswith("«␣PEAK»10 r0 r1 r2 r3")


def test_a_result_shows_prediction_outcome_and_marks() -> None:
    shown = show_result(result("p1.1", "h1", "It was almost ten", activations={"almost": 4.0}), 8.0)
    assert (shown.prediction, shown.outcome, shown.peak) == ("active", "active", 5)
    assert shown.text == "It was«␣almost»5 ten"


def test_a_silent_positive_that_a_neighbour_took_is_said_to_be_absorbed() -> None:
    """Guards against a claim that is narrowed because another feature fired instead."""
    silent = result("p1.1", "h1", "It was ten", outcome=experiment.PROBE_OUTCOME_SILENT)
    silent.absorbed_by = "saes/demo/features/9"
    assert show_result(silent, 8.0).outcome == "silent (absorbed)"


def test_fifths_are_shown_evenly_and_named_by_strength() -> None:
    """Guards against evidence of the strongest fifth alone."""
    seen = evidence()
    for number in range(25):
        quantile = window(100 + number, f"a{number} PEAK", {"PEAK": 8.0}, WINDOW_STRATEGY_QUANTILE)
        quantile.stratum = number % 5
        seen.windows[0].windows.append(quantile)
    groups = [w.group for w in EvidenceView.of(seen).windows if w.group.startswith("q")]
    assert sorted(groups) == [f"q{n}" for n in (1, 1, 2, 2, 3, 3, 4, 4, 5, 5)]


def test_a_near_miss_is_shown_at_the_token_that_fires_elsewhere() -> None:
    """Guards against a near miss whose lookalike is cut away."""
    text = " ".join([*(f"l{n}" for n in range(60)), "almost", *(f"r{n}" for n in range(9))])
    seen = evidence()
    seen.windows[1].windows.append(window(30, text, {}, WINDOW_STRATEGY_NEAR_MISS))
    assert EvidenceView.of(seen).windows[-1].text.endswith(" almost r0 r1 r2 r3")


def test_a_claim_covers_the_exemplars_that_peak_at_the_same_token() -> None:
    """Guards against exemplars that no prompt has room for and so nobody ever claims."""
    claimed = EvidenceView.of(evidence()).claims(["w2"])
    assert sorted(claimed) == [f"indexes/i1/windows/{n}" for n in (10, 11, 12, 13)]


def test_the_vocabulary_probe_is_told_by_strength_and_stands_in_for_neighbours() -> None:
    """Guards against a scan whose triggers the model never reads."""
    seen = evidence()
    assert neighbor_lines(seen) and not vocabulary_lines(seen)
    for number, kind in ((1, CARRIER_KIND_SHORT), (2, CARRIER_KIND_SHORT), (3, CARRIER_KIND_BARE)):
        probe = seen.vocabulary_probes.add()
        probe.carrier.kind = kind
        probe.top_tokens.add(token_bytes=b" virtually", activation=8.0)
        if number == 1:
            probe.top_tokens.add(token_bytes=b"\nnext", activation=4.0)
    assert vocabulary_lines(seen) == ["any words: ␣virtually 10, ↵next 3"]
    assert not neighbor_lines(seen)
