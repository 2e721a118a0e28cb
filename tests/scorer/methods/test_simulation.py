"""Simulation on the world whose truth is known. Load-bearing: every variant is compared with
the functions that meet the parity vectors, and stated numbers say that they are."""

from __future__ import annotations

import numpy as np
import pytest

from saexplain.common.v1.score_pb2 import SCORE_STATUS_UNDEFINED
from saexplain.common.v1.usage_pb2 import LlmUsage
from saexplain.common.v1.window_pb2 import SPLIT_EXPLAIN, SPLIT_HELDOUT
from saexplain.scorer.v1.scorer_pb2 import (
    PREDICTION_STATUS_FAILED,
    PREDICTION_STATUS_OK,
    SHARE_SOURCE_LOG_PROBABILITIES,
    SHARE_SOURCE_STATED,
    Prediction,
)
from services.scorer.judges.pattern import PatternJudge
from services.scorer.judges.pattern_writer import PatternWriter
from services.scorer.methods.simulation import Simulation
from services.scorer.statistics import correlation as corr
from services.scorer.statistics.published import delphi, transluce
from services.scorer.statistics.simulation import METRICS, Simulations, simulation_scores
from tests.scorer import world


class Simulator:
    """Simulates by a function of an item: shares per token, or None for none."""

    def __init__(self, shares, source=SHARE_SOURCE_LOG_PROBABILITIES):
        self._shares, self._source = shares, source
        self.items = []

    async def judge(self, request):
        self.items += request.items
        said = []
        for item in request.items:
            shares = self._shares(item)
            status = PREDICTION_STATUS_FAILED if shares is None else PREDICTION_STATUS_OK
            said.append(
                Prediction(
                    item_id=item.id,
                    status=status,
                    shares=[] if shares is None else shares,
                    share_source=self._source,
                )
            )
        return said, LlmUsage()


async def score(judge, windows=None):
    return await world.run(
        Simulation(),
        judge,
        PatternWriter(),
        world.explanation(*world.TRUE_SHARES),
        "simulation",
        windows=windows,
    )


def noisy(item) -> list[float]:
    """The truth of the word, noise that depends on the window, and never below 0."""
    rng = np.random.default_rng(len(item.id) + int(item.id.rsplit("/", 1)[1]))
    true = [world.TRUE_SHARES.get(t, 0.0) for t in item.tokens.token_bytes]
    return np.clip(np.array(true) * 0.5 + rng.uniform(0, 0.2, len(true)), 0, 1).tolist()


async def test_every_variant_is_the_published_function_of_the_same_numbers():
    """Guards against a mean over windows, a line fitted on the wrong windows, and one
    variant under another's name."""
    judge = Simulator(noisy)
    result = await score(judge)
    scores = world.by_metric(result)
    windows = {w.name: w for s in (SPLIT_EXPLAIN, SPLIT_HELDOUT) for w in world.population(s)}

    def of_split(split):
        names = [r.item for r in result.rows if windows[r.item].split == split]
        items = {i.id: i for i in judge.items}
        predicted = np.concatenate([np.array(noisy(items[n]), np.float32) for n in names])
        measured = [np.array(windows[n].activations) / world.REFERENCE_MAX for n in names]
        return predicted.astype(np.float64), np.concatenate(measured)

    predicted, measured = of_split(SPLIT_HELDOUT)
    slope, intercept = corr.fit_line(*of_split(SPLIT_EXPLAIN))
    line = slope * predicted + intercept
    own = transluce.transluce_calibrated([predicted], [measured])[0]
    rounded = delphi.delphi_scale(measured, measured.max()).astype(float)
    wanted = {
        "pearson": np.corrcoef(predicted, measured)[0, 1],
        "r2": 1 - np.mean((measured - predicted) ** 2) / np.mean(measured**2),
        "absolute_deviation": 1 - np.mean(np.abs(measured - predicted)) / np.mean(measured),
        "pearson_calibrated": np.corrcoef(line, measured)[0, 1],
        "r2_calibrated": corr.uncentred_r2(line, measured).value,
        "absolute_deviation_calibrated": corr.absolute_deviation_explained(line, measured).value,
        "pearson_delphi": np.corrcoef(predicted, rounded)[0, 1],
        "pearson_transluce": abs(np.corrcoef(predicted, measured)[0, 1]),
        "r2_transluce": np.corrcoef(predicted, measured)[0, 1] ** 2,
        "d2_transluce": transluce.transluce_d2(own, measured).value,
    }
    assert set(wanted) == set(METRICS)
    for metric, value in wanted.items():
        assert scores[metric].value == pytest.approx(value, abs=1e-6), metric
        assert scores[metric].interval.low <= value <= scores[metric].interval.high, metric
        assert not scores[metric].note
    assert scores["pearson"].positive_count == 10 and scores["pearson"].negative_count == 10


async def test_stated_numbers_are_noted():
    """Guards against a simulation without log-probabilities that passes for one with."""
    stated = world.by_metric(await score(Simulator(noisy, SHARE_SOURCE_STATED)))
    assert all("stated numbers in 28 of 28" in s.note for s in stated.values())
    by_pattern = world.by_metric(await score(PatternJudge()))
    assert not any(s.note for s in by_pattern.values())
    assert by_pattern["pearson"].value > 0.99


async def test_a_simulation_with_the_wrong_sign_is_seen_by_ours_and_not_by_transluce():
    """Guards against calibration that turns a wrong explanation into a good score."""

    def inverted(item) -> list[float]:
        return [1.0 - world.TRUE_SHARES.get(t, 0.0) for t in item.tokens.token_bytes]

    scores = world.by_metric(await score(Simulator(inverted)))
    assert scores["pearson"].value < -0.9
    assert scores["pearson_transluce"].value > 0.9 and scores["r2_transluce"].value > 0.8
    # OpenAI's line has a negative slope, fitted on other windows: it turns the sign too.
    assert scores["pearson_calibrated"].value > 0.9


async def test_windows_without_a_simulation_count_in_none():
    """Guards against OpenAI's parser, which turns a lost reply into zeros."""
    first = Simulator(noisy)
    await score(first)
    lost = {i.id for i in first.items[::3]}
    judge = Simulator(lambda item: None if item.id in lost else noisy(item))
    result = await score(judge)
    scores = world.by_metric(result)
    heldout = {w.name for w in world.population(SPLIT_HELDOUT)}
    assert scores["pearson"].failed_count == len(lost & heldout) > 0
    assert {r.item for r in result.rows if not r.HasField("predicted")} == lost
    nothing = world.by_metric(await score(Simulator(lambda item: None)))
    assert all(s.status == SCORE_STATUS_UNDEFINED for s in nothing.values())


def test_without_windows_to_fit_on_only_the_calibrated_are_undefined():
    """Guards against a line fitted on what it scores under OpenAI's name."""
    scored = Simulations([np.array([0.0, 1.0, 0.0])], [np.array([0.1, 0.8, 0.0])], ["d"])
    values = simulation_scores(scored, Simulations([], [], []), seed=1)
    undefined = {metric for metric, value in values.items() if value.value is None}
    assert undefined == {m for m in METRICS if m.endswith("_calibrated")}
    # One document: no resample says anything, and these scores have no lower end.
    assert values["pearson"].interval.kind == "range" and values["r2"].interval is None


def test_a_constant_simulation_has_no_correlation_and_r2_of_nothing():
    """Guards against 0.0 for what cannot be correlated (a parser's all-zero fallback)."""
    zeros = Simulations([np.zeros(4)], [np.array([0.0, 1.0, 0.0, 0.5])], ["d"])
    values = simulation_scores(zeros, zeros, seed=None)
    assert values["pearson"].value is None and "constant" in values["pearson"].reason
    assert values["r2"].value == 0.0 and values["absolute_deviation"].value == 0.0
