"""Clarity, responsiveness and purity on a corpus whose whole population is known."""

from __future__ import annotations

import numpy as np
import pytest

from saexplain.common.v1.score_pb2 import SCORE_STATUS_UNDEFINED
from saexplain.common.v1.window_pb2 import SPLIT_HELDOUT
from saexplain.scorer.v1.scorer_pb2 import (
    JUDGE_TASK_RATE,
    PREDICTION_STATUS_FAILED,
    PREDICTION_STATUS_OK,
    PlanScoreRequest,
    Prediction,
    ScoreRequest,
)
from services.common.errors import InvalidArgument
from services.scorer.judges.pattern import PatternJudge
from services.scorer.judges.pattern_writer import PatternWriter
from services.scorer.methods.clarity import Clarity
from services.scorer.methods.purity import Purity
from services.scorer.methods.responsiveness import Responsiveness
from services.scorer.statistics.separation import gini, precision
from tests.scorer import world

WORDS = tuple(world.TRUE_SHARES)


async def score(method, *words, other=None, **more):
    name = method.declaration.name
    explained = world.explanation(*(words or WORDS))
    result = await world.run(
        method, PatternJudge(), PatternWriter(), explained, name, other=other, **more
    )
    return result, world.by_metric(result)


async def rated(method, ratings, judge="pattern"):
    """The method with ratings by a function of the item; None fails it."""
    name = method.declaration.name
    sent = {"windows": world.lists(), "facts": world.facts(), "explanation": world.explanation()}
    plan = await method.plan(
        PlanScoreRequest(options=world.options(name, judge), **sent), PatternWriter()
    )
    assert {item.task for item in plan.judge_items} == {JUDGE_TASK_RATE}
    predictions = []
    for item in plan.judge_items:
        rating = ratings(item)
        status = PREDICTION_STATUS_FAILED if rating is None else PREDICTION_STATUS_OK
        predictions.append(Prediction(item_id=item.id, status=status, rating=rating))
    request = ScoreRequest(options=world.options(name, judge), predictions=predictions, **sent)
    return world.by_metric(method.score(request))


def holds(item, *words: bytes) -> bool:
    return any(word in item.tokens.token_bytes for word in words)


def population(*concept: bytes):
    """Largest activation, whether a window holds the concept, for all windows but those
    that hold the weak word and nothing stronger (rated 1)."""
    everything = world.population(SPLIT_HELDOUT)
    kept = [
        w
        for w in everything
        if holds(w, *concept) or not (world.WEAK in concept and holds(w, world.WEAK))
    ]
    return (
        np.array([w.max_activation for w in kept]),
        np.array([holds(w, *concept) for w in kept]),
    )


@pytest.mark.parametrize(
    ("method", "measure"), [(Responsiveness, gini), (Purity, precision)], ids=["gini", "precision"]
)
@pytest.mark.parametrize("words", [(b" alpha", b" beta", b" gamma"), (b" alpha", b" extra")])
async def test_the_sample_estimates_the_population(method, measure, words):
    """Guards against a mix of windows that nobody drew: a sample of a tenth of the silent
    windows gives the number of all windows."""
    values, concept = population(*words)
    wanted = float(measure(values, concept, np.ones((1, values.size)))[0])
    found = []
    for seed in range(4):
        _, scores = await score(method(), *words, windows=world.lists(0.6, 0.3, seed))
        own = scores[method.declaration.metrics[0]]
        found.append(own.value)
        assert own.interval.low <= own.value <= own.interval.high
        assert own.split == SPLIT_HELDOUT and own.insensitive == (method is Responsiveness)
    assert np.mean(found) == pytest.approx(wanted, abs=0.06)


@pytest.mark.parametrize("method", [Responsiveness, Purity])
async def test_what_the_concept_suppresses_is_not_what_it_excites(method):
    """Guards against a fold in the number that is not named after it, and one that is
    missing where it is."""

    def upside_down(item):
        return 0 if holds(item, *WORDS) else 2

    scores = await rated(method(), upside_down)
    name = method.declaration.name
    assert scores[name].value < 0.95 and scores[f"{name}_fade"].value == pytest.approx(1)
    if method is Responsiveness:
        assert scores[name].value == pytest.approx(-1)


@pytest.mark.parametrize("method", [Responsiveness, Purity])
async def test_windows_without_a_rating_are_neither_0_nor_2(method):
    """Guards against failures and ratings of 1 in a class."""

    def clumsy(item):
        if holds(item, b" beta"):
            return None
        return 1 if holds(item, world.WEAK) else (2 if holds(item, b" alpha", b" gamma") else 0)

    for judge in ("pattern", "llm"):
        own = (await rated(method(), clumsy, judge))[method.declaration.name]
        assert own.value == pytest.approx(1) and own.failed_count > 0
    everything = await rated(method(), lambda item: 2)
    assert everything[method.declaration.name].status == SCORE_STATUS_UNDEFINED
    assert everything[method.declaration.name].status_reason
    with pytest.raises(InvalidArgument, match="0, 1 or 2"):
        await rated(method(), lambda item: 3)


async def test_a_language_model_rates_few_windows():
    """Guards against a bill for every window of the sample."""
    sent = {"windows": world.lists(), "facts": world.facts(), "explanation": world.explanation()}
    by_judge = {}
    for judge in ("pattern", "llm"):
        request = PlanScoreRequest(options=world.options("purity", judge), **sent)
        by_judge[judge] = len((await Purity().plan(request, PatternWriter())).judge_items)
    assert by_judge["llm"] == 160 < by_judge["pattern"]


async def test_texts_of_the_concept_are_clearer_than_texts_of_another():
    """Guards against texts that are ranked among the wrong windows, and against baselines
    without texts."""
    _, right = await score(Clarity(), other=world.pattern([world.UNRELATED]))
    _, wrong = await score(Clarity(), world.UNRELATED)
    assert right["clarity"].value > 0.9 and wrong["clarity"].value < 0.1
    assert wrong["clarity_fade"].value == pytest.approx(abs(wrong["clarity"].value))
    others = {b.name: b.value for b in right["clarity"].baselines}
    assert others["top_token"] > 0.9 and others["other_feature"] == pytest.approx(
        wrong["clarity"].value, abs=0.05
    )
    counts = right["clarity"]
    assert counts.positive_count > 20 and counts.interval.low < counts.value


async def test_without_texts_there_is_no_clarity():
    """Guards against a clarity of 0 where nothing was written."""
    sent = {"windows": world.lists(), "facts": world.facts(), "explanation": world.explanation()}
    request = ScoreRequest(options=world.options("clarity"), **sent)
    scores = world.by_metric(Clarity().score(request))
    assert {s.status for s in scores.values()} == {SCORE_STATUS_UNDEFINED}
