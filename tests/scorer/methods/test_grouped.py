"""Intruder and autointerp: windows judged together. Load-bearing: the place of the answer
tells nothing, and a group without an answer is no wrong one."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from saexplain.common.v1.score_pb2 import SCORE_STATUS_UNDEFINED
from saexplain.common.v1.usage_pb2 import LlmUsage
from saexplain.common.v1.window_pb2 import WINDOW_STRATEGY_NON_ACTIVATING, WINDOW_STRATEGY_TOP
from saexplain.scorer.v1.scorer_pb2 import (
    JUDGE_TASK_PICK,
    JUDGE_TASK_PICK_BLIND,
    PREDICTION_STATUS_FAILED,
    PREDICTION_STATUS_OK,
    Prediction,
)
from services.common.errors import InvalidArgument
from services.scorer.judges.pattern import PatternJudge
from services.scorer.judges.pattern_writer import PatternWriter
from services.scorer.methods.autointerp import Autointerp
from services.scorer.methods.intruder import Intruder
from services.scorer.statistics.published.saebench import saebench_score
from tests.scorer import world


class Scripted:
    """A judge that answers a group by a function: places, or None for none."""

    def __init__(self, answer):
        self._answer = answer
        self.items = []

    async def judge(self, request):
        self.items += request.items
        said = []
        for item in request.items:
            chosen = self._answer(item)
            status = PREDICTION_STATUS_FAILED if chosen is None else PREDICTION_STATUS_OK
            said.append(Prediction(item_id=item.id, status=status, chosen=chosen or []))
        return said, LlmUsage()


async def score(method, judge, windows=None, llm=False, seed=7):
    chosen = world.options(method.declaration.name, "llm" if llm else "pattern", seed)
    chosen.llm.model = "m" if llm else ""
    return await world.run(
        method,
        judge,
        PatternWriter(),
        world.explanation(*world.TRUE_SHARES),
        method.declaration.name,
        options=chosen,
        windows=windows,
    )


def silent_places(item) -> list[int]:
    return [
        place
        for place, passage in enumerate(item.passages)
        if not any(token in world.TRUE_SHARES for token in passage.tokens.token_bytes)
    ]


def firing_places(item) -> list[int]:
    return [i for i in range(len(item.passages)) if i not in silent_places(item)]


async def test_the_intruder_is_the_one_silent_window_at_any_place():
    """Guards against groups of several answers, and intruders that stand at one place."""
    judge = Scripted(silent_places)
    result = await score(Intruder(), judge)
    accuracy = world.by_metric(result)["accuracy"]
    assert accuracy.value == 1.0 and accuracy.positive_count == 20
    assert all(len(i.passages) == 5 and len(silent_places(i)) == 1 for i in judge.items)
    places = Counter(silent_places(i)[0] for i in judge.items)
    assert len(places) == 5 and max(places.values()) < 10
    assert {len(p.highlights) for i in judge.items for p in i.passages} == {1}
    constant = next(b.value for b in accuracy.baselines if b.name == "constant")
    assert constant == pytest.approx(0.2), "chance, ties shared"


async def test_the_majority_is_of_one_fifth():
    """Guards against groups in which the intruder is only the weakest."""
    judge = Scripted(silent_places)
    lists = world.lists()
    await score(Intruder(), judge, windows=lists)
    fifths = {
        tuple(w.tokens.token_bytes): w.stratum
        for e in lists
        for w in e.windows
        if e.selection == world.quantiles().selection
    }
    for item in judge.items:
        tokens = [tuple(item.passages[i].tokens.token_bytes) for i in firing_places(item)]
        assert len({fifths[t] for t in tokens}) == 1 and len(set(tokens)) == 4


async def test_a_blind_judge_gets_the_same_groups_and_another_score():
    """Guards against an explanation's score that the feature earns."""
    judge = Scripted(lambda i: silent_places(i) if i.task == JUDGE_TASK_PICK else [0])
    scores = world.by_metric(await score(Intruder(), judge, llm=True))
    told = [i.passages for i in judge.items if i.task == JUDGE_TASK_PICK]
    blind = [i.passages for i in judge.items if i.task == JUDGE_TASK_PICK_BLIND]
    assert [[p.SerializeToString() for p in g] for g in told] == [
        [p.SerializeToString() for p in g] for g in blind
    ]
    assert scores["accuracy"].value == 1.0 and scores["accuracy_blind"].value < 0.6
    assert all("depend" in b.undefined_reason for b in scores["accuracy_blind"].baselines)
    by_pattern = world.by_metric(await score(Intruder(), PatternJudge()))
    assert by_pattern["accuracy"].value == 1.0
    assert "language model" in by_pattern["accuracy_blind"].status_reason


async def test_groups_without_an_answer_are_failed():
    """Guards against a lost reply counted as a wrong choice."""
    lost = {"told/0", "told/7"}
    judge = Scripted(lambda i: None if i.id in lost else silent_places(i))
    result = await score(Intruder(), judge)
    accuracy = world.by_metric(result)["accuracy"]
    assert (accuracy.value, accuracy.positive_count, accuracy.failed_count) == (1.0, 18, 2)
    assert {r.item for r in result.rows if r.excluded_reason} == lost
    with pytest.raises(InvalidArgument):
        await score(Intruder(), Scripted(lambda i: [9]))


async def test_autointerp_shows_two_two_and_ten():
    """Guards against another mix, from which the published number cannot be compared."""
    judge = Scripted(firing_places)
    result = await score(Autointerp(), judge)
    scores = world.by_metric(result)
    (item,) = judge.items
    assert len(item.passages) == 14 and len(result.rows) == 14
    assert scores["accuracy"].value == scores["balanced_accuracy"].value == 1.0
    assert scores["accuracy"].positive_count == len(firing_places(item)) >= 4
    assert not any(p.highlights for p in item.passages)


async def test_none_of_them_scores_high_and_is_told_apart():
    """Guards against plain accuracy read as quality: `None` scores 10/14 as published."""
    scores = world.by_metric(await score(Autointerp(), Scripted(lambda i: [])))
    assert scores["accuracy_saebench"].value == pytest.approx(10 / 14)
    assert scores["balanced_accuracy"].value == 0.5


@pytest.mark.parametrize("seed", range(8))
async def test_random_windows_count_by_what_was_measured(seed):
    """Guards against the published shortcut, which takes the ten random windows for
    silent: it is a metric of its own, and the truth is measured."""
    judge = Scripted(firing_places)
    result = await score(Autointerp(), judge, seed=seed)
    scores = world.by_metric(result)
    firing = len(firing_places(judge.items[0]))
    assert scores["accuracy"].value == 1.0
    assert scores["accuracy_saebench"].value == pytest.approx(1 - (firing - 4) / 14)
    active = np.array([r.measured > 0 for r in result.rows])
    named = [i + 1 for i in firing_places(judge.items[0])]
    assert saebench_score(active, named).value == scores["accuracy"].value


async def test_autointerp_without_an_answer_or_windows_is_undefined():
    """Guards against fourteen wrong answers for one lost reply."""
    scores = world.by_metric(await score(Autointerp(), Scripted(lambda i: None)))
    for entry in scores.values():
        assert entry.status == SCORE_STATUS_UNDEFINED and entry.failed_count == 14
    few = [e for e in world.lists() if e.selection.strategy == WINDOW_STRATEGY_NON_ACTIVATING]
    few += [e for e in world.lists() if e.selection.strategy == WINDOW_STRATEGY_TOP]
    nothing = world.by_metric(await score(Autointerp(), Scripted(firing_places), windows=few))
    assert "too few" in nothing["accuracy"].status_reason


async def test_the_same_request_gives_the_same_bytes():
    """Guards against a draw that differs between runs."""
    for method in (Intruder(), Autointerp()):
        first, second = [await score(method, PatternJudge()) for _ in range(2)]
        assert first == second
