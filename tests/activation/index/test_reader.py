"""Windows from an index are true, and their probabilities add up.

Load-bearing: ``test_every_window_carries_the_activations_of_its_context``, against a plain
encoding of the context, and the two tests that weights add up to the population.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from services.activation.index.config import EXCLUDED, Split
from services.activation.index.reader import CorpusWindow, Strategy
from services.activation.index.strategies import allocate
from services.common.errors import InvalidArgument
from tests.activation.index.conftest import Built

FEATURES = (0, 5, 31, 95)
WITH_FEATURE = [(strategy, split) for strategy in Strategy for split in Split]


def windows(built: Built, feature: int, strategy: Strategy, split: Split) -> list[CorpusWindow]:
    return built.reader.exemplars(feature, strategy, split, 200, seed=3, left_token_count=4)


@pytest.mark.parametrize(("strategy", "split"), WITH_FEATURE)
def test_every_window_carries_the_activations_of_its_context(
    built: Built, strategy: Strategy, split: Split
) -> None:
    """Guards against invented zeros, rounding beyond the fixed point, and other splits."""
    seen = 0
    for feature in FEATURES:
        step = built.reader.numbers(feature).maximum / 65_535
        for window in windows(built, feature, strategy, split):
            expected = built.dense[window.number][:, feature]
            assert window.activations is not None
            np.testing.assert_allclose(window.activations, expected, atol=step + 1e-4)
            assert (np.array(window.activations) > 0).tolist() == (expected > 0).tolist()
            assert window.split == split
            seen += 1
    assert seen > 0 or strategy is Strategy.NEAR_MISS


def test_windows_carry_their_place_in_the_corpus(built: Built) -> None:
    layout = built.plan.layout
    for window in windows(built, 5, Strategy.TOP, Split.EXPLAIN):
        start = int(layout.window_start[window.number])
        begin = start - window.context_position
        context = layout.tokens[begin : start + len(window.token_ids)].tolist()
        assert context == [*context[: window.context_position], *window.token_ids]
        assert window.left_ids == tuple(context[: window.context_position][-4:])
        place = built.plan.documents.ids.index(window.document)
        assert built.plan.documents.sources[place] == window.source
        assert window.peak == int(np.argmax(window.activations))


def test_top_windows_are_the_strongest_without_duplicates(built: Built) -> None:
    """Guards against exemplars that repeat one phrase, and against a lost strongest one."""
    plan = built.plan
    for feature in FEATURES:
        best: dict[tuple[int, ...], tuple[float, int]] = {}
        for number, values in enumerate(built.dense):
            if plan.window_split[number] != Split.EXPLAIN or not values[:, feature].any():
                continue
            start = int(plan.layout.window_start[number])
            peak = start + int(np.argmax(values[:, feature]))
            begin = int(plan.layout.context_start[plan.layout.window_context[number]])
            key = tuple(plan.layout.tokens[max(begin, peak - 5) : peak + 1].tolist())
            value = float(values[:, feature].max())
            best[key] = max(best.get(key, (0.0, 0)), (value, -number))
        expected = sorted(best.values(), reverse=True)[: plan.config.top_counts[Split.EXPLAIN]]
        found = windows(built, feature, Strategy.TOP, Split.EXPLAIN)
        assert [w.maximum for w in found] == pytest.approx([v for v, _ in expected], abs=1e-3)
        assert {w.number for w in found} == {-number for _, number in expected}


@pytest.mark.parametrize("count", [9, 20, 200])
def test_weights_of_active_windows_add_up_to_all_of_them(built: Built, count: int) -> None:
    """Guards against probabilities that are not those of the draw."""
    for feature in FEATURES:
        for split in Split:
            population = built.reader.numbers(feature).splits[split].active_window_count
            random = built.reader.exemplars(feature, Strategy.RANDOM_ACTIVE, split, count, seed=1)
            assert sum(1 / w.probability for w in random) == pytest.approx(population)
            assert all(0 < w.probability <= 1 for w in random)


def test_silent_windows_are_those_of_the_panel_and_weigh_as_all_silent_ones(built: Built) -> None:
    """The number of silent windows of a split is known, so their weights add up to it exactly."""
    plan = built.plan
    for feature in FEATURES:
        silent = windows(built, feature, Strategy.NON_ACTIVATING, Split.HELDOUT)
        panel = [n for n in plan.panel_windows.tolist() if plan.window_split[n] == Split.HELDOUT]
        expected = [n for n in panel if not built.dense[n][:, feature].any()]
        assert [w.number for w in silent] == expected
        numbers = built.reader.numbers(feature).splits[Split.HELDOUT]
        population = numbers.window_count - numbers.active_window_count
        for count in (5, 200):
            few = built.reader.exemplars(feature, Strategy.NON_ACTIVATING, Split.HELDOUT, count)
            assert sum(1 / w.probability for w in few) == pytest.approx(population)


def test_near_misses_hold_a_peak_token_and_stay_silent(built: Built) -> None:
    found = 0
    for feature in range(built.reader.feature_count):
        peaks = set(built.reader.peak_tokens(feature))
        reference = built.reader.numbers(feature).reference_max
        for window in windows(built, feature, Strategy.NEAR_MISS, Split.EXPLAIN):
            assert peaks & set(window.token_ids)
            assert window.maximum < 0.1 * reference
            found += 1
    assert found > 20


def test_quintiles_rise_and_share_the_places(built: Built) -> None:
    for feature in FEATURES:
        found = built.reader.exemplars(feature, Strategy.QUANTILE, Split.EXPLAIN, 10, seed=2)
        by_quintile = {q: [w.maximum for w in found if w.stratum == q] for q in range(5)}
        filled = [values for values in by_quintile.values() if values]
        assert all(max(low) <= min(high) for low, high in itertools.pairwise(filled))
        assert len(found) == 10
        assert len(filled) >= 4


def test_the_seed_changes_the_draw_and_nothing_else_does(built: Built) -> None:
    def draw(seed: int) -> list[int]:
        found = built.reader.exemplars(5, Strategy.RANDOM_ACTIVE, Split.HELDOUT, 8, seed=seed)
        return [window.number for window in found]

    assert draw(1) == draw(1)
    assert len({tuple(draw(seed)) for seed in range(6)}) > 1


def test_search_finds_exactly_the_windows_that_hold_a_token(built: Built) -> None:
    layout, plan = built.plan.layout, built.plan
    token = int(layout.tokens[100])
    for split in Split:
        expected = [
            number
            for number in range(layout.window_count)
            if plan.window_split[number] == split
            and token
            in layout.tokens[layout.window_start[number] :][: layout.window_length[number]]
        ]
        found, total = built.reader.search([token], split, 1_000)
        assert [window.number for window in found] == expected
        assert total == len(expected)
        assert all(window.activations is None for window in found)
        few, total = built.reader.search([token], split, 2)
        assert (len(few), total) == (min(2, len(expected)), len(expected))
    assert EXCLUDED not in {int(w.split) for w in found}


def test_bad_requests_are_named(built: Built) -> None:
    with pytest.raises(InvalidArgument) as caught:
        built.reader.numbers(96)
    assert caught.value.reason == "FEATURE_OUT_OF_RANGE"
    with pytest.raises(InvalidArgument, match="count"):
        built.reader.exemplars(0, Strategy.TOP, Split.EXPLAIN, 0)


def test_places_are_given_one_each_and_then_by_weight() -> None:
    weights = np.array([9.0, 1.0, 4.0, 0.0])
    available = np.array([10, 10, 2, 0])
    assert allocate(weights, available, 2).tolist() == [0, 1, 1, 0]
    assert allocate(weights, available, 3).tolist() == [1, 1, 1, 0]
    assert allocate(weights, available, 8).tolist() == [5, 1, 2, 0]
    assert allocate(weights, available, 99).tolist() == [10, 10, 2, 0]
