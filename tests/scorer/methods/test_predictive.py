"""The predictive score: which windows, cut how, and when there is no number."""

from __future__ import annotations

import numpy as np
import pytest

from saexplain.common.v1.score_pb2 import SCORE_STATUS_UNDEFINED
from saexplain.common.v1.window_pb2 import (
    SPLIT_HELDOUT,
    WINDOW_STRATEGY_RANDOM_ACTIVE,
    WINDOW_STRATEGY_TOP,
)
from saexplain.scorer.v1.scorer_pb2 import PREDICTION_STATUS_FAILED, PlanScoreRequest
from services.scorer.judges.pattern import PatternJudge
from services.scorer.methods.predictive import Predictive, cut
from tests.scorer import world


async def run(judge=None, explained=None, **more):
    explained = explained or world.explanation()
    return await world.run(
        Predictive(), judge or PatternJudge(), None, explained, "predictive", **more
    )


async def test_ten_exemplars_beyond_the_strongest_ten_and_as_many_silent_windows():
    """Guards against scoring the exemplars that thresholds and prompts are made of."""
    windows = world.lists()
    plan = await Predictive().plan(
        PlanScoreRequest(
            options=world.options("predictive"),
            explanation=world.explanation(),
            windows=windows,
            facts=world.facts(),
        ),
        None,
    )
    names = [i.id for i in plan.judge_items]
    sent = {
        w.name: w
        for strategy in (WINDOW_STRATEGY_TOP, WINDOW_STRATEGY_RANDOM_ACTIVE)
        for e in windows
        if (e.selection.split, e.selection.strategy) == (SPLIT_HELDOUT, strategy)
        for w in e.windows
    }
    strongest = sorted(sent.values(), key=lambda w: -w.max_activation)[:100]
    ranked = [w.name for w in strongest]
    ranks = sorted(ranked.index(n) for n in names if n in ranked)
    count = len(ranked)
    assert len(names) == 20 and len(ranks) == 10 and ranks[0] >= 10
    assert sum(r < int(0.4 * count) for r in ranks) == 4
    assert sum(r >= int(0.7 * count) for r in ranks) == 3
    assert names == sorted(names)


def test_a_cut_holds_five_tokens_on_either_side_and_the_rest_as_context():
    """Guards against a peak that is shown out of place."""
    window = world.population(SPLIT_HELDOUT)[0]
    tokens = list(window.tokens.token_bytes)
    short = cut(window, 7)
    assert list(short.tokens.token_bytes) == tokens[2:12]
    assert list(short.activations) == list(window.activations)[2:12]
    assert list(short.left_context.token_bytes) == [
        *window.left_context.token_bytes,
        *tokens[:2],
    ]
    assert list(cut(window, 1).tokens.token_bytes) == tokens[:7]


async def test_a_perfect_explanation_follows_the_feature():
    """Guards against predictions that are compared with another window's values."""
    scores = world.by_metric(await run(explained=world.explanation(*world.TRUE_SHARES)))
    assert scores["pearson_mean"].value > 0.99
    assert 0.9 < scores["pearson_pooled"].value <= 1
    assert scores["pearson_matched"].value > 0.9
    assert scores["pearson_mean"].interval.kind == "bootstrap_document"
    assert scores["pearson_pooled"].positive_count + scores["pearson_pooled"].negative_count == 10
    assert scores["pearson_matched"].negative_count >= 10


async def test_the_expected_values_come_from_an_independent_computation():
    """Guards against an estimator that only agrees with itself: r by numpy over the rows'
    own windows."""
    windows, explained = world.lists(), world.explanation(b" alpha", b" beta")
    result = await run(explained=explained, windows=windows)
    everything = {w.name: w for w in world.population(SPLIT_HELDOUT)}
    rs, predicted, measured = [], [], []
    for row in result.rows:
        window = everything[row.item]
        if window.max_activation == 0:
            continue
        peak = int(np.argmax(window.activations))
        begin, end = max(0, peak - 5), peak + 6
        shares = {b" alpha": 1.0, b" beta": 0.9}
        p = [shares.get(t, 0.0) for t in window.tokens.token_bytes[begin:end]]
        a = list(window.activations)[begin:end]
        predicted += p
        measured += a
        if len(set(p)) > 1:
            rs.append(np.corrcoef(p, a)[0, 1])
    scores = world.by_metric(result)
    assert scores["pearson_mean"].value == pytest.approx(np.mean(rs), abs=1e-9)
    pooled = np.corrcoef(predicted, measured)[0, 1]
    assert scores["pearson_pooled"].value == pytest.approx(pooled, abs=1e-6)


async def test_too_few_exemplars_have_no_score_rather_than_zero():
    """Guards against the published 0.0 for features that were never evaluated."""
    windows = world.lists()
    for entry in windows:
        if entry.selection.strategy in (WINDOW_STRATEGY_TOP, WINDOW_STRATEGY_RANDOM_ACTIVE):
            del entry.windows[10:]
    for score in (await run(windows=windows)).scores:
        assert score.status == SCORE_STATUS_UNDEFINED
        assert "too few" in score.status_reason and not score.HasField("value")


async def test_fewer_than_five_predictions_have_no_score():
    """Guards against a correlation over what a failing judge happened to answer."""

    class Failing(PatternJudge):
        async def judge(self, request):
            predictions, usage = await super().judge(request)
            for p in predictions[:17]:
                p.status = PREDICTION_STATUS_FAILED
                p.ClearField("shares")
            return predictions, usage

    scores = world.by_metric(await run(Failing()))
    assert scores["pearson_mean"].status == SCORE_STATUS_UNDEFINED
    assert scores["pearson_matched"].failed_count == 17
