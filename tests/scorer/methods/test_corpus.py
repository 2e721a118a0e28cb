"""The corpus score against the full population of a world where it is known.

Load-bearing: `test_estimates_aim_at_the_population`, an independent computation over every
window instead of a weighted sample.
"""

from __future__ import annotations

import numpy as np
import pytest

from saexplain.common.v1.score_pb2 import SCORE_STATUS_OK, SCORE_STATUS_UNDEFINED
from saexplain.common.v1.window_pb2 import (
    SPLIT_HELDOUT,
    WINDOW_STRATEGY_NON_ACTIVATING,
    WINDOW_STRATEGY_RANDOM_ACTIVE,
)
from saexplain.scorer.v1.scorer_pb2 import (
    PREDICTION_STATUS_FAILED,
    JudgeItem,
    PlanScoreRequest,
)
from services.common.errors import InvalidArgument
from services.scorer.judges.pattern import PatternJudge
from services.scorer.methods.corpus import Corpus
from tests.scorer import world


async def score(explained=None, judge=None, **more):
    explained = explained or world.explanation()
    return await world.run(Corpus(), judge or PatternJudge(), None, explained, "corpus", **more)


def population_values(words: dict[bytes, float]) -> tuple[float, float]:
    """F1 and Pearson over every HELDOUT window, from the definitions."""
    tp = fp = fn = 0
    predicted, measured = [], []
    for window in world.population(SPLIT_HELDOUT):
        p = [words.get(t, 0.0) for t in window.tokens.token_bytes]
        a = [v / world.REFERENCE_MAX for v in window.activations]
        called, active = max(p) >= 0.5, max(a) >= 0.5
        tp, fp, fn = tp + (called and active), fp + (called > active), fn + (active > called)
        predicted += p
        measured += a
    return 2 * tp / (2 * tp + fp + fn), float(np.corrcoef(predicted, measured)[0, 1])


async def test_estimates_aim_at_the_population():
    """Guards against scoring at the prevalence of the sample: the false alarms of an
    unrelated word are in silent windows, of which only three in ten are sampled."""
    words = {b" alpha": 1.0, b" beta": 0.9, world.UNRELATED: 1.0}
    explained = world.explanation(*words)
    f1, pearson = population_values(words)
    estimates = []
    for seed in range(8):
        scores = world.by_metric(await score(explained, windows=world.lists(0.5, 0.3, seed)))
        estimates.append((scores["f1"].value, scores["pearson"].value))
    mean = np.mean(estimates, axis=0)
    assert mean == pytest.approx([f1, pearson], rel=0.06)
    # Without weights a negative control fails: the sample holds far too many positives.
    unweighted = world.lists(0.5, 0.3)
    for entry in unweighted:
        for window in entry.windows:
            window.inclusion_probability = 1.0
    biased = world.by_metric(await score(explained, windows=unweighted))["f1"].value
    assert abs(biased - f1) > 0.02


async def test_a_census_gives_the_population_value_exactly():
    """Guards against any other unit than the window for F1 and the token for Pearson."""
    scores = world.by_metric(await score(windows=world.lists(1.0, 1.0)))
    f1, pearson = population_values(world.STRENGTHS)
    assert scores["f1"].value == pytest.approx(f1, abs=1e-6)
    assert scores["pearson"].value == pytest.approx(pearson, abs=1e-6)


async def test_every_metric_has_value_interval_counts_and_four_baselines():
    """Guards against a metric that lacks what every score must carry."""
    explained = world.explanation(*world.TRUE_SHARES)
    result = await score(explained, other=world.pattern([world.UNRELATED]))
    assert [s.metric for s in result.scores] == list(Corpus.declaration.metrics)
    for metric in result.scores:
        assert metric.status == SCORE_STATUS_OK, (metric.metric, metric.status_reason)
        assert metric.interval.low <= metric.value <= metric.interval.high
        names = [b.name for b in metric.baselines]
        assert names == ["constant", "other_feature", "top_token", "token_table"]
        assert metric.positive_count + metric.negative_count > 0
        assert metric.estimator_version and metric.judge == "pattern" and metric.seed == 7
        assert metric.split == SPLIT_HELDOUT


async def test_the_gap_closed_relates_the_score_to_its_baselines():
    """Guards against a gap that is computed from other baselines than those shown."""
    score_of = world.by_metric(await score(world.explanation(b" alpha", b" beta")))["pearson"]
    base = {b.name: b.value for b in score_of.baselines}
    assert base["top_token"] < score_of.value < base["token_table"]
    expected = (score_of.value - base["top_token"]) / (base["token_table"] - base["top_token"])
    assert score_of.gap_closed == pytest.approx(expected)


async def test_the_constant_has_an_f1_and_no_correlation():
    """Guards against a rounding residue that is reported as the constant's correlation."""
    scores = world.by_metric(await score())
    constant = {m: scores[m].baselines[0] for m in ("f1", "pearson")}
    assert 0 < constant["f1"].value < 0.3
    assert not constant["pearson"].HasField("value")
    assert "constant" in constant["pearson"].undefined_reason


class FailingOn(PatternJudge):
    """Fails on chosen items."""

    def __init__(self, fails):
        self.fails = fails

    async def judge(self, request):
        predictions, usage = await super().judge(request)
        for p in predictions:
            if self.fails(p.item_id):
                p.ClearField("shares")
                p.status = PREDICTION_STATUS_FAILED
        return predictions, usage


async def test_failed_predictions_are_counted_and_neither_wrong_nor_zero():
    """Guards against a failed window that counts as predicted silent."""
    windows = world.lists(1.0, 1.0)
    exact = world.by_metric(await score(windows=windows))
    fails = FailingOn(lambda name: int(name.rsplit("/", 1)[1]) % 3 == 0)
    result = await score(judge=fails, windows=windows)
    scores = world.by_metric(result)
    assert scores["f1"].failed_count > 400
    assert scores["f1"].value == exact["f1"].value == 1.0
    failed = [r for r in result.rows if r.excluded_reason == "no prediction"]
    assert len(failed) == scores["f1"].failed_count
    assert not any(r.HasField("predicted") for r in failed)


async def test_a_judge_that_fails_on_silent_windows_does_not_raise_the_score():
    """Guards against a prevalence that shifts with the judge's failures: without the others
    standing for them, losing most silent windows would lose most false alarms."""
    explained = world.explanation(*world.STRENGTHS, world.UNRELATED)
    windows = world.lists(1.0, 1.0)
    silent = {
        w.name
        for entry in windows
        for w in entry.windows
        if w.strategy == WINDOW_STRATEGY_NON_ACTIVATING
    }
    fails = FailingOn(lambda name: name in silent and int(name.rsplit("/", 1)[1]) % 3 > 0)
    full = world.by_metric(await score(explained, windows=windows))["f1"].value
    thinned = world.by_metric(await score(explained, fails, windows=windows))["f1"].value
    assert thinned == pytest.approx(full, rel=0.1)


async def test_near_misses_and_top_windows_never_enter_the_pooled_sample():
    """Guards against pooling: windows chosen for their looks have no weight."""
    with_apart = world.lists()
    pooled = (WINDOW_STRATEGY_RANDOM_ACTIVE, WINDOW_STRATEGY_NON_ACTIVATING)
    without = [
        e
        for e in with_apart
        if e.selection.split != SPLIT_HELDOUT or e.selection.strategy in pooled
    ]
    a, b = [world.by_metric(await score(windows=w)) for w in (with_apart, without)]
    for metric in ("f1", "pearson", "precision", "recall", "average_precision"):
        assert a[metric].value == b[metric].value
    assert a["near_miss_rejection"].value == 1.0
    assert b["near_miss_rejection"].status == SCORE_STATUS_UNDEFINED


async def test_without_silent_windows_nothing_at_natural_prevalence_is_defined():
    """Guards against an F1 over active windows only that looks like a corpus score."""
    windows = [e for e in world.lists() if e.selection.strategy != WINDOW_STRATEGY_NON_ACTIVATING]
    scores = world.by_metric(await score(windows=windows))
    assert scores["f1"].status == SCORE_STATUS_UNDEFINED
    assert not scores["f1"].HasField("value") and "silent" in scores["f1"].status_reason


async def test_the_language_model_judges_a_thinned_sample_that_score_finds_again():
    """Guards against a plan and a score that draw different windows."""
    chosen = world.options("corpus", judge="llm")
    explained = world.explanation()
    requests = []

    class Recording(PatternJudge):
        async def judge(self, request):
            requests.append(request)
            return await super().judge(request)

    result = await score(explained, Recording(), options=chosen)
    assert len(requests[0].items) <= 256
    f1 = world.by_metric(result)["f1"]
    assert f1.failed_count == 0 and f1.positive_count + f1.negative_count == 96 + 128
    total = sum(r.weight for r in result.rows if not r.excluded_reason)
    assert total == pytest.approx(world.POPULATION, rel=0.1)


async def test_judge_items_show_no_activation_and_no_truth_in_their_order():
    """Guards against a judge that could read the answer off the item or its place."""
    assert set(JudgeItem.DESCRIPTOR.fields_by_name) == {
        "id",
        "task",
        "left_context",
        "tokens",
        "text",
        "highlights",
        "passages",
        "context_position",
    }
    request = PlanScoreRequest(
        options=world.options("corpus"),
        explanation=world.explanation(),
        windows=world.lists(),
        facts=world.facts(),
    )
    plan = await Corpus().plan(request, None)
    names = [i.id for i in plan.judge_items]
    assert names == sorted(names) and len(set(names)) == len(names)


async def test_shares_of_another_length_are_refused():
    """Guards against predictions that silently line up with the wrong tokens."""

    class Short(PatternJudge):
        async def judge(self, request):
            predictions, usage = await super().judge(request)
            del predictions[3].shares[-1]
            return predictions, usage

    with pytest.raises(InvalidArgument) as raised:
        await score(judge=Short())
    assert raised.value.violations[0].field == "predictions[3].shares"


async def test_the_same_request_gives_the_same_bytes():
    """Guards against unseeded resampling."""
    a, b = [await score() for _ in range(2)]
    assert a.SerializeToString(deterministic=True) == b.SerializeToString(deterministic=True)
