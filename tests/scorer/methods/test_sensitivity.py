"""Every metric of every method under the two tests of the method (section 5): half of the
parts dropped, an unrelated part added. A metric that does not fall under both has to be
flagged, and one that is flagged has to deserve it.

Feature and unrelated part are rare, as most are: about one window in 70 is active and one in
200 holds the unrelated word, so that a balanced sample hardly ever meets it.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from saexplain.common.v1.explanation_pb2 import Explanation
from saexplain.common.v1.window_pb2 import WINDOW_STRATEGY_NON_ACTIVATING
from saexplain.scorer.v1.scorer_pb2 import JUDGE_TASK_EMBED, PREDICTION_STATUS_OK, Prediction
from services.scorer.judges.pattern import PatternJudge
from services.scorer.judges.pattern_writer import PatternWriter
from services.scorer.methods.registry import EMBEDDING_METHODS, METHODS
from tests.scorer import world

SEEDS = range(5)
FALL = 0.02
"""Less is no fall: it is lost in the noise of a sample."""

SILENT_SHARE = 0.04
"""Of the silent windows is in the sample: each stands for 25."""

BLIND = {("intruder", "accuracy_blind")}
"""Never shown the explanation, and not answered by a pattern."""


class Judge(PatternJudge):
    """The pattern judge, which embeds texts by the words that matter in them."""

    async def judge(self, request):
        texts = [i for i in request.items if i.task == JUDGE_TASK_EMBED]
        if not texts:
            return await super().judge(request)
        words = [w.decode().strip() for w in (*world.TRUE_SHARES, world.UNRELATED, *world.WORDS)]
        said = []
        for item in texts:
            vector = [float(item.text.count(word)) for word in words]
            said.append(
                Prediction(item_id=item.id, status=PREDICTION_STATUS_OK, embedding=[*vector, 0.3])
            )
        return said, (await super().judge(type(request)(explanation=request.explanation)))[1]


def explained(*words: bytes) -> Explanation:
    """Parts and a text that name the words."""
    return world.explanation(*words, text="fires on " + ", ".join(w.decode() for w in words))


def rare(seed: int) -> list:
    """Windows of a world in which feature and unrelated word are rare."""
    lists = world.lists(0.8, 0.5, seed)
    for entry in lists:
        if entry.selection.strategy != WINDOW_STRATEGY_NON_ACTIVATING:
            continue
        extra = [w for w in entry.windows if world.UNRELATED in w.tokens.token_bytes]
        for window in extra[len(entry.windows) // 200 :]:
            entry.windows.remove(window)
        for window in entry.windows:
            window.inclusion_probability = SILENT_SHARE
    return lists


@pytest.fixture(scope="module")
def samples() -> list[list]:
    return [rare(seed) for seed in SEEDS]


async def metrics(name: str, samples: list[list], what: Explanation) -> dict[str, list[float]]:
    """Every metric on each of the samples, NaN where it is undefined."""
    values: dict[str, list[float]] = defaultdict(list)
    judge = "llm" if name in EMBEDDING_METHODS else "pattern"
    for seed, windows in zip(SEEDS, samples, strict=True):
        chosen = world.options(name, judge, seed)
        made = await world.run(
            METHODS[name], Judge(), PatternWriter(), what, name, windows=windows, options=chosen
        )
        for score in made.scores:
            assert score.insensitive == (score.metric in METHODS[name].insensitive)
            values[score.metric].append(score.value if score.HasField("value") else np.nan)
    return values


def fall(whole: list[float], other: list[float]) -> float:
    """How much a metric falls in the median sample; what becomes undefined falls."""
    return float(np.median(np.array(whole) - np.nan_to_num(other, nan=-1.0)))


@pytest.mark.parametrize("name", sorted(METHODS))
async def test_a_metric_is_flagged_if_and_only_if_it_fails_one_of_the_two_tests(name, samples):
    """Guards against a score that rewards explanations which leave half out or claim too
    much, without saying so; and against a flag on a sound metric."""
    # The weak word gives the lowest fifth something to be right about.
    words = list(world.TRUE_SHARES)
    whole = await metrics(name, samples, explained(*words))
    half = await metrics(name, samples, explained(b" alpha", b" gamma"))
    extended = await metrics(name, samples, explained(*words, world.UNRELATED))
    undefined = {(name, metric) for metric, values in whole.items() if np.isnan(values).any()}
    assert undefined == {(n, m) for n, m in BLIND if n == name}
    falls = {m: (fall(whole[m], half[m]), fall(whole[m], extended[m])) for m in whole}
    insensitive = {m for m, both in falls.items() if not min(both) >= FALL}
    assert insensitive == set(METHODS[name].insensitive), falls
