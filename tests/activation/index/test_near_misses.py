"""Near misses are silent, stand on the rung they claim, and are counted right.

Load-bearing: ``test_rungs_and_counts_equal_those_of_a_plain_search``, from dense activations of
every window of the pool.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from services.activation.index.config import Split
from services.activation.index.grid import bin_of
from services.activation.index.layout import lay_out
from services.activation.index.merge import Neighbors
from services.activation.index.misses import MissFinder, Rung
from services.activation.index.reader import CorpusWindow, Strategy
from services.activation.index.strategies import SILENT_SHARE
from tests.activation.index.conftest import CONFIG, Built

FEATURES = range(0, 96, 5)


def near(built: Built, feature: int, split: Split, rungs: list[Rung]) -> list[CorpusWindow]:
    return built.reader.exemplars(feature, Strategy.NEAR_MISS, split, 300, seed=2, rungs=rungs)


def tokens_of(built: Built, window: int) -> set[int]:
    layout = built.plan.layout
    begin = int(layout.window_start[window])
    return set(layout.tokens[begin : begin + int(layout.window_length[window])].tolist())


def plain_rungs(built: Built, neighbors: Neighbors, feature: int) -> dict[int, Rung | None]:
    """Whether a silent window of the pool holds a peak token or activates a neighbour."""
    peaks = set(built.reader.peak_tokens(feature))
    reference = np.array([built.reader.numbers(f).reference_max for f in range(96)], np.float32)
    strong = bin_of(np.float32(0.5) * reference)
    (close,) = neighbors(range(feature, feature + 1))
    rungs: dict[int, Rung | None] = {}
    for window in built.plan.pool_windows.tolist():
        values = built.dense[window]
        if values[:, feature].any():
            continue
        largest = values.max(axis=0)
        active = [g for g in close if largest[g] > 0 and bin_of(largest[g : g + 1])[0] >= strong[g]]
        shares_peak = bool(peaks & tokens_of(built, window))
        rungs[window] = Rung.SAME_TOKEN if shares_peak else Rung.NEIGHBOR if active else None
    return rungs


def test_rungs_and_counts_equal_those_of_a_plain_search(built: Built, neighbors: Neighbors) -> None:
    """Guards against windows that fire, stand on a nearer rung, or are weighted wrongly."""
    stored = {name: built.reader.files.array(name) for name in ("miss_counts", "miss_offsets")}
    window, rung = built.reader.files.array("miss_window"), built.reader.files.array("miss_rung")
    seen = 0
    for feature in FEATURES:
        expected = plain_rungs(built, neighbors, feature)
        run = slice(*stored["miss_offsets"][feature : feature + 2].tolist())
        for number, found in zip(window[run].tolist(), rung[run].tolist(), strict=True):
            assert number in expected
            assert Rung(found) == (expected[number] or Rung.LEXICAL)
            seen += 1
        for split in Split:
            mine = [r for w, r in expected.items() if built.plan.window_split[w] == split]
            for one in (Rung.NEIGHBOR, Rung.SAME_TOKEN):
                assert stored["miss_counts"][feature, split, one - 1] == mine.count(one)
    assert seen > 300


def test_words_of_context_make_a_lexical_near_miss() -> None:
    """By hand: exemplars hold 7 and 8 around their peak 9. Windows that hold both, but neither 9
    nor an active feature, are lexically near; one of the two does not suffice, and 1 is common."""
    words = [
        *([1, 7, 9, 8], [8, 1, 7, 9]),  # exemplars
        *([7, 1, 8, 1], [1, 8, 7, 1], [7, 1, 1, 1], [9, 1, 1, 1]),
        *([1, 10 + i, 1, 1] for i in range(94)),
    ]
    tokens, config = np.array(words, np.int32).ravel(), replace(CONFIG, window_token_count=4)
    offsets = np.arange(0, len(tokens) + 1, 4)
    layout = lay_out(tokens, offsets, replace(config, context_token_count=5))
    windows, split = np.arange(100), np.zeros(100, np.uint8)

    class Fires:
        """Feature 0 fires in the exemplars and in window 3, feature 1 in window 50."""

        def places(self, feature: int, lowest_bin: int = 0) -> np.ndarray:
            return np.array([[0, 1, 3], [50]][feature])

    finder = MissFinder(layout, windows, split, Fires(), np.ones(2, np.float32), config)
    portrait = finder.portrait(layout, np.array([0, 1]), np.array([2, 7]))
    assert (portrait.peak_tokens.tolist(), portrait.cues.tolist()) == ([9], [7, 8])
    found = finder.find(0, portrait, np.array([1]))
    assert found.window.tolist() == [2, 50, 5]
    assert found.rung.tolist() == [Rung.LEXICAL, Rung.NEIGHBOR, Rung.SAME_TOKEN]
    assert found.counts[Split.EXPLAIN].tolist() == [1, 1, 1]


@pytest.mark.parametrize("rung", [Rung.NEIGHBOR, Rung.SAME_TOKEN])
def test_near_misses_carry_their_rung_and_a_probability(built: Built, rung: Rung) -> None:
    total = 0
    for feature in FEATURES:
        reference = built.reader.numbers(feature).reference_max
        for split in Split:
            for window in near(built, feature, split, [rung]):
                assert window.rung is rung
                assert window.split == split
                assert window.maximum < SILENT_SHARE * reference
                assert 0 < window.probability <= 1
                np.testing.assert_allclose(
                    window.activations, built.dense[window.number][:, feature], atol=2e-3
                )
                total += 1
    assert total > 20


def test_rungs_share_the_places(built: Built) -> None:
    """Guards against one rung that crowds the others out."""
    rungs = [Rung.NEIGHBOR, Rung.SAME_TOKEN]
    feature = max(
        FEATURES, key=lambda f: min(len(near(built, f, Split.EXPLAIN, [rung])) for rung in rungs)
    )
    found = built.reader.exemplars(
        feature, Strategy.NEAR_MISS, Split.EXPLAIN, 4, seed=1, rungs=rungs
    )
    assert sorted(window.rung or 0 for window in found) == [2, 2, 3, 3]


def test_an_index_that_keeps_none_finds_them_in_its_panel(
    built: Built, neighbors: Neighbors
) -> None:
    """An index of format 1 has no arrays of near misses; the shipped one is of that kind."""
    found = []
    for feature in FEATURES:
        (close,) = neighbors(range(feature, feature + 1))
        reader = built.panel_reader()
        assert not reader.keeps_near_misses
        for rung in Rung:
            windows = reader.exemplars(
                feature,
                Strategy.NEAR_MISS,
                Split.EXPLAIN,
                300,
                rungs=[rung],
                neighbors=close.tolist(),
            )
            for window in windows:
                assert window.rung is rung
                values = built.dense[window.number][:, feature]
                np.testing.assert_allclose(window.activations, values, atol=2e-3)
            found.append(len(windows))
    assert sum(found) > 20
