"""The four trivial explanations: what they are fitted on, and what they predict."""

from __future__ import annotations

import numpy as np
import pytest

from saexplain.common.v1.window_pb2 import (
    SPLIT_EXPLAIN,
    SPLIT_HELDOUT,
    WINDOW_STRATEGY_TOP,
    Window,
)
from services.common.pattern import predict_window
from services.scorer import baselines
from services.scorer.evidence import Evidence, thinned, weighted
from tests.scorer import world


def fitted(lists=None, other=None) -> dict[str, baselines.Predictor]:
    evidence = Evidence(world.lists() if lists is None else lists, world.facts())
    return {b.name: b for b in baselines.fit(evidence, other)}


def test_their_names_and_order_are_fixed():
    """Guards against reports that line up values by place."""
    assert tuple(fitted()) == baselines.NAMES


def test_the_top_token_is_the_commonest_peak_of_the_exemplars():
    """Guards against the strongest single exemplar, and exemplars of HELDOUT."""
    top = next(
        e
        for e in world.lists()
        if (e.selection.split, e.selection.strategy) == (SPLIT_EXPLAIN, WINDOW_STRATEGY_TOP)
    )
    peaks = [w.tokens.token_bytes[int(np.argmax(w.activations))] for w in top.windows]
    commonest = max(set(peaks), key=peaks.count)
    tokens = world.span([b" waa", commonest, b" gamma"])
    assert fitted()["top_token"].predict(Window(tokens=tokens)).tolist() == [0, 1, 0]


def test_the_table_is_the_weighted_mean_per_token():
    """Guards against means at the prevalence of the sample. The feature is a function of the
    token, so at the right weights a token's mean is its strength times the mean factor."""
    evidence = Evidence(world.lists(1.0, 0.3), world.facts())
    sample = weighted(evidence.windows(SPLIT_EXPLAIN, *baselines_strategies()))
    means, spelling = baselines.token_means(sample, world.REFERENCE_MAX)
    by_token = {spelling[t]: m for t, m in means.items()}
    for token, share in world.TRUE_SHARES.items():
        assert by_token[token] == pytest.approx(share * 0.914, rel=0.06)
    assert by_token[b" waa"] == 0.0


def baselines_strategies():
    return [s.strategy for s in baselines.SELECTIONS[1:]]


def test_weights_change_the_table():
    """Guards against weights that are read and not used: a token that is active in active
    windows and as often stands in silent ones, which are sampled one in ten."""
    active = world.window_list(
        [w for w in world.population(SPLIT_EXPLAIN) if w.max_activation > 0][:5],
        SPLIT_EXPLAIN,
        baselines_strategies()[0],
        1.0,
    )
    silent = world.window_list(
        [w for w in world.population(SPLIT_EXPLAIN) if w.max_activation == 0][:5],
        SPLIT_EXPLAIN,
        baselines_strategies()[1],
        0.1,
    )
    for entry, value in ((active, 8.0), (silent, 0.0)):
        for window in entry.windows:
            window.tokens.token_ids[0], window.tokens.token_bytes[0] = 77, b" x"
            window.activations[0] = value
    evidence = Evidence([active, silent], world.facts())
    sample = weighted(evidence.windows(SPLIT_EXPLAIN, *baselines_strategies()))
    means, _ = baselines.token_means(sample, world.REFERENCE_MAX)
    assert means[77] == pytest.approx(5 / 55)


def test_the_table_calls_windows_active_at_its_own_best_threshold():
    """Guards against a table that loses F1 to its scale: a mean of 0.4 of the maximum would
    never reach one half."""
    lists = world.lists(1.0, 1.0)
    for entry in lists:
        for window in entry.windows:
            # At every second place of a trigger the feature stays silent.
            if int(window.name.rsplit("/", 1)[1]) % 2:
                window.activations[:] = [0.0] * len(window.activations)
    table = fitted(lists)["token_table"]
    for word in world.STRENGTHS:
        assert table.predict(Window(tokens=world.span([word])))[0] >= 0.5
    assert table.predict(Window(tokens=world.span([world.WEAK])))[0] < 0.5
    assert table.predict(Window(tokens=world.span([b" never seen"])))[0] == 0


def test_heldout_windows_change_nothing():
    """Guards against a baseline, and with it a gap, that was fitted on what it scores."""
    explain = [e for e in world.lists() if e.selection.split == SPLIT_EXPLAIN]
    both, alone = fitted(), fitted(explain)
    for window in world.population(SPLIT_HELDOUT)[:50]:
        for name in ("top_token", "token_table"):
            values = [f[name].predict(window).tolist() for f in (both, alone)]
            assert values[0] == values[1]


def test_a_pattern_says_what_the_prediction_says():
    """Guards against texts that are written from something else than what is scored."""
    for name, baseline in fitted(other=world.pattern([world.UNRELATED])).items():
        for window in world.population(SPLIT_HELDOUT)[:40]:
            by_pattern = predict_window(baseline.pattern, window)
            got = baseline.predict(window)
            assert got.tolist() == pytest.approx(by_pattern.tolist(), abs=1e-6), name


def test_what_cannot_be_fitted_says_why():
    """Guards against zeros for baselines without evidence."""
    none = fitted([])
    for name in ("other_feature", "top_token", "token_table"):
        assert none[name].predict is None and none[name].undefined_reason


def test_thinning_keeps_strata_and_totals():
    """Guards against a judged sample that stands for fewer windows than it was drawn from."""
    windows = list(world.population(SPLIT_HELDOUT)[:300])
    copies = world.window_list(windows, SPLIT_HELDOUT, WINDOW_STRATEGY_TOP, 0.5).windows
    for i, window in enumerate(copies):
        window.stratum = i % 3
    thin = thinned(list(copies), 60, 5)
    assert len({t.window.name for t in thin}) == 60
    assert sum(t.weight for t in thin) == pytest.approx(600)
    strata = [sum(t.window.stratum == s for t in thin) for s in range(3)]
    assert strata == [20, 20, 20]
    assert thinned(list(copies), 60, 5) == thin != thinned(list(copies), 60, 6)
    assert len(thinned(list(copies), None, 5)) == 300
