"""Every metric of every method under the two tests of the method (section 5): half of the
parts dropped, an unrelated part added. A metric that does not fall under both has to be
flagged, and one that is flagged has to deserve it."""

from __future__ import annotations

import numpy as np
import pytest

from saexplain.common.v1.explanation_pb2 import Explanation
from services.scorer.judges.pattern import PatternJudge
from services.scorer.judges.pattern_writer import PatternWriter
from services.scorer.methods.corpus import Corpus
from services.scorer.methods.generative import Generative
from services.scorer.methods.input import Input
from services.scorer.methods.predictive import Predictive
from tests.scorer import world

SEEDS = (1, 2, 3)
FALL = 0.01


async def metrics(method, explained: Explanation) -> dict[str, float]:
    """Mean of every metric over a few samples and seeds; undefined ones are left out."""
    values: dict[str, list[float]] = {}
    for seed in SEEDS:
        result = await world.run(
            method(),
            PatternJudge(),
            PatternWriter(),
            explained,
            method.declaration.name,
            windows=world.lists(0.8, 0.5, seed),
            options=world.options(method.declaration.name, seed=seed),
        )
        for score in result.scores:
            if score.HasField("value"):
                values.setdefault(score.metric, []).append(score.value)
    return {metric: float(np.mean(v)) for metric, v in values.items()}


@pytest.mark.parametrize("method", [Corpus, Generative, Predictive, Input])
async def test_a_metric_is_flagged_if_and_only_if_it_fails_one_of_the_two_tests(method):
    """Guards against a score that rewards explanations which leave half out or claim too
    much, without saying so; and against a flag on a sound metric."""
    # The weak word gives the lowest fifth something to be right about.
    words = list(world.TRUE_SHARES)
    whole = await metrics(method, world.explanation(*words))
    half = await metrics(method, world.explanation(b" alpha", b" gamma"))
    extended = await metrics(method, world.explanation(*words, world.UNRELATED))
    assert set(whole) == set(method.declaration.metrics)
    falls = {
        metric: (
            whole[metric] - half.get(metric, -1.0) > FALL
            and whole[metric] - extended.get(metric, -1.0) > FALL
        )
        for metric in whole
    }
    insensitive = {metric for metric, fell in falls.items() if not fell}
    assert insensitive == set(method.insensitive)
