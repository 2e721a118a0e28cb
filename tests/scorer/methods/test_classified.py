"""Detection and fuzzing on the world whose truth is known, with judges made by hand.
Load-bearing: what has no answer counts in no class, and highlights show nothing but
themselves."""

from __future__ import annotations

from zlib import crc32

import numpy as np
import pytest

from saexplain.common.v1.score_pb2 import SCORE_STATUS_UNDEFINED
from saexplain.common.v1.usage_pb2 import LlmUsage
from saexplain.common.v1.window_pb2 import WINDOW_STRATEGY_NON_ACTIVATING, WINDOW_STRATEGY_QUANTILE
from saexplain.scorer.v1.scorer_pb2 import (
    PREDICTION_STATUS_FAILED,
    PREDICTION_STATUS_OK,
    PlanScoreRequest,
    Prediction,
)
from services.common.errors import InvalidArgument
from services.scorer.judges.pattern import PatternJudge
from services.scorer.judges.pattern_writer import PatternWriter
from services.scorer.methods.detection import Detection
from services.scorer.methods.fuzzing import Fuzzing
from services.scorer.statistics.balanced import RATIOS, cells, ratio
from services.scorer.statistics.published import delphi, neuronpedia
from tests.scorer import world


class Scripted:
    """A judge that answers an item by a function: a likelihood, or None for none."""

    def __init__(self, answer):
        self._answer = answer
        self.items = []

    async def judge(self, request):
        self.items += request.items
        return [self._prediction(item) for item in request.items], LlmUsage()

    def _prediction(self, item) -> Prediction:
        likelihood = self._answer(item)
        if likelihood is None:
            return Prediction(item_id=item.id, status=PREDICTION_STATUS_FAILED)
        return Prediction(item_id=item.id, status=PREDICTION_STATUS_OK, probability=likelihood)


async def score(method, judge, *words, windows=None):
    return await world.run(
        method,
        judge,
        PatternWriter(),
        world.explanation(*(words or world.TRUE_SHARES)),
        method.declaration.name,
        windows=windows,
        other=world.pattern([world.UNRELATED]),
    )


def fires(item) -> bool:
    return any(token in world.TRUE_SHARES for token in item.tokens.token_bytes)


@pytest.mark.parametrize("method", [Detection, Fuzzing])
async def test_a_perfect_judge_and_its_opposite_reach_the_ends(method):
    """Guards against a truth that is turned round, or taken from another window."""

    def knows(item) -> float:
        marked = [item.tokens.token_bytes[i] for i in item.highlights] or item.tokens.token_bytes
        return 0.9 if any(token in world.TRUE_SHARES for token in marked) else 0.1

    right = world.by_metric(await score(method(), Scripted(knows)))
    wrong = world.by_metric(await score(method(), Scripted(lambda item: 1 - knows(item))))
    for metric in method.declaration.metrics:
        if metric == "near_miss_rejection":
            continue
        assert right[metric].value == 1.0, metric
        assert wrong[metric].value == 0.0, metric
        assert right[metric].interval.low < 1.0, "no certainty from a sample"
    assert right["f1"].positive_count == right["f1"].negative_count == 50


async def test_always_yes_is_worth_nothing():
    """Guards against a score that a judge earns without reading."""
    yes = world.by_metric(await score(Detection(), Scripted(lambda item: 1.0)))
    assert yes["balanced_accuracy"].value == yes["auc"].value == 0.5
    assert yes["recall"].value == 1.0 and yes["near_miss_rejection"].value == 0.0
    constant = {b.name: b.value for b in yes["balanced_accuracy"].baselines}["constant"]
    assert constant == 0.5


async def test_what_has_no_answer_is_neither_wrong_nor_right():
    """Guards against delphi's defect (failed_count is always 0) and failures as errors."""
    asked = Scripted(
        lambda item: None if crc32(item.id.encode()) % 2 else (0.9 if fires(item) else 0.1)
    )
    result = await score(Detection(), asked)
    scores = world.by_metric(result)
    answered = scores["f1"].positive_count + scores["f1"].negative_count
    assert scores["balanced_accuracy"].value == scores["f1"].value == 1.0
    assert scores["f1"].failed_count == 100 - answered > 0
    lost = [row for row in result.rows if row.excluded_reason == "no prediction"]
    assert lost and not any(row.HasField("predicted") for row in lost)


async def test_without_any_answer_of_a_class_ours_is_undefined_and_the_variants_are_not():
    """Guards against a mean over one class under the name of balanced accuracy."""
    only_firing = Scripted(lambda item: 0.9 if fires(item) else None)
    scores = world.by_metric(await score(Detection(), only_firing))
    ours = scores["balanced_accuracy"]
    assert ours.status == SCORE_STATUS_UNDEFINED and "inactive" in ours.status_reason
    assert scores["auc"].status == SCORE_STATUS_UNDEFINED
    assert scores["balanced_accuracy_delphi"].value == 0.5
    assert scores["balanced_accuracy_neuronpedia"].value == 0.0
    silent = world.by_metric(await score(Detection(), Scripted(lambda item: None)))
    for entry in silent.values():
        assert entry.status == SCORE_STATUS_UNDEFINED and entry.failed_count > 0


async def test_the_sample_has_equal_shares_of_the_fifths():
    """Guards against a sample of strong firing only, which every explanation detects."""
    lists = [e for e in world.lists() if e.selection.strategy != WINDOW_STRATEGY_QUANTILE]
    lists.append(world.quantiles(per_fifth=20))
    judge = Scripted(lambda item: 0.9 if fires(item) else 0.1)
    await score(Detection(), judge, windows=lists)
    stratum = {w.name: w.stratum for w in lists[-1].windows}
    drawn = [stratum[i.id] for i in judge.items if i.id in stratum]
    assert [drawn.count(s) for s in range(5)] == [10] * 5


async def test_items_come_in_an_order_that_shows_nothing():
    """Guards against a judge that reads the class off the place."""
    judge = Scripted(lambda item: 0.5)
    await score(Detection(), judge)
    assert [i.id for i in judge.items] == sorted(i.id for i in judge.items)


async def test_highlights_are_the_strong_tokens_or_as_many_random_ones():
    """Guards against highlights of every firing token, which show more than the method
    says, and silent windows known by the number of their marks."""
    judge = Scripted(lambda item: 0.5)
    await score(Fuzzing(), judge)
    windows = {w.name: w for e in world.lists() for w in e.windows}
    kinds = {"firing": 0, "silent": 0, "wrong": 0}
    for item in judge.items:
        window = windows[item.id.removesuffix("/wrong")]
        values = np.array(window.activations)
        marked = values[list(item.highlights)]
        if item.id.endswith("/wrong"):
            kinds["wrong"] += 1
            assert values.max() > 0 and marked.max() == 0
        elif values.max() > 0:
            kinds["firing"] += 1
            assert marked.min() >= 0.3 * values.max()
            rest = np.delete(values, list(item.highlights))
            assert rest.max() < 0.3 * values.max()
        else:
            kinds["silent"] += 1
            assert len(item.highlights) == 1
    assert kinds == {"firing": 50, "silent": 50, "wrong": 25}


async def test_a_topic_explanation_is_caught_by_wrong_tokens():
    """Guards against fuzzing that an explanation of the topic passes: a judge that looks at
    the window and not at the marks refuses no wrong token."""
    topical = Scripted(lambda item: 0.9 if fires(item) else 0.1)
    scores = world.by_metric(await score(Fuzzing(), topical))
    assert scores["balanced_accuracy"].value == 1.0
    assert scores["wrong_token_rejection"].value == 0.0


async def test_the_pattern_and_its_baseline_agree():
    """Guards against a baseline that is measured by another rule than the explanation."""
    result = await world.run(
        Fuzzing(),
        PatternJudge(),
        PatternWriter(),
        world.explanation(),
        "fuzzing",
        other=world.pattern(world.STRENGTHS),
    )
    for entry in result.scores:
        other = next(b for b in entry.baselines if b.name == "other_feature")
        assert other.value == entry.value, entry.metric


async def test_the_same_request_gives_the_same_bytes():
    """Guards against a draw that differs between plan and score, or between runs."""
    for method in (Detection(), Fuzzing()):
        first, second = [await score(method, PatternJudge()) for _ in range(2)]
        assert first.SerializeToString(deterministic=True) == second.SerializeToString(
            deterministic=True
        )


async def test_without_windows_every_metric_is_undefined():
    """Guards against a division by nothing."""
    for method in (Detection(), Fuzzing()):
        empty = [
            e
            for e in world.lists()
            if e.selection.strategy
            not in (WINDOW_STRATEGY_QUANTILE, WINDOW_STRATEGY_NON_ACTIVATING)
        ]
        name = method.declaration.name
        request = PlanScoreRequest(
            options=world.options(name),
            explanation=world.explanation(),
            windows=empty,
            facts=world.facts(),
        )
        plan = await method.plan(request, PatternWriter())
        assert name == "detection" or not plan.judge_items
        scores = world.by_metric(await score(method, PatternJudge(), windows=empty))
        assert scores["balanced_accuracy"].status == SCORE_STATUS_UNDEFINED


async def test_an_answer_that_is_no_likelihood_is_refused():
    """Guards against percentages taken for likelihoods."""
    with pytest.raises(InvalidArgument) as raised:
        await score(Detection(), Scripted(lambda item: 90.0))
    assert raised.value.violations[0].field == "predictions[0].probability"


@pytest.mark.parametrize("seed", range(20))
def test_the_variants_are_those_of_the_parity_vectors(seed):
    """Guards against two definitions of one published number: on random answers, some of
    one class only, the metrics agree with the functions that meet the vectors."""
    rng = np.random.default_rng(seed)
    said, active = rng.random(9).round(1), rng.random(9) < [0.0, 0.5, 1.0][seed % 3]
    sums = cells(said, active).sum(axis=0)[None, :]
    metrics = delphi.delphi_metrics(delphi.delphi_confusion(said.tolist(), active.tolist()))
    assert RATIOS["balanced_accuracy_delphi"](sums)[0] == pytest.approx(metrics["accuracy"])
    by_neuronpedia = neuronpedia.neuronpedia_score([int(s >= 0.5) for s in said], active.tolist())
    assert RATIOS["balanced_accuracy_neuronpedia"](sums)[0] == pytest.approx(by_neuronpedia.value)
    for ours, theirs in (("precision", "precision"), ("recall", "recall"), ("f1", "f1_score")):
        value = ratio(ours, said, active).value
        assert value is None or value == pytest.approx(metrics[theirs])
