"""Simulation (OpenAI's automated interpretability, 2023; Transluce's and delphi's variants):
how well simulated activations follow the feature token by token.

20 whole HELDOUT windows: the 5 strongest, 5 from the fifths of the activation, 10 random
silent ones. A simulator gives 0 to 10 for every token, as the expected value over the
log-probabilities of the numbers where the endpoint reports them; else the numbers that it
states stand, and every score's note says so. Shares are of the reference maximum; one
correlation is taken over all tokens of all windows.

- `pearson`, `r2`, `absolute_deviation`: OpenAI's three, R2 and deviation against a baseline
  that predicts 0 everywhere, without calibration.
- `pearson_calibrated`, `r2_calibrated`, `absolute_deviation_calibrated`: the same after a
  line that was fitted on 8 other windows, of EXPLAIN. A negative slope turns the
  correlation's sign.
- `pearson_delphi`: `pearson` against activations rounded up to 0-10 integers of the
  strongest window's maximum, silent windows taken as 0.
- `pearson_transluce`, `r2_transluce`, `d2_transluce`: after a line fitted on the very
  windows that are scored; R2 and D2 against the mean and the median. The correlation is
  then |r|, and R2 its square: they cannot see a simulation that has its sign wrong.

A window without a usable simulation counts in none. Intervals: bootstrap over documents,
lines held fixed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from saexplain.common.v1.score_pb2 import MethodResult, ScoreRow
from saexplain.common.v1.window_pb2 import (
    SPLIT_EXPLAIN,
    SPLIT_HELDOUT,
    WINDOW_STRATEGY_NON_ACTIVATING,
    WINDOW_STRATEGY_QUANTILE,
    WINDOW_STRATEGY_TOP,
    Window,
)
from saexplain.scorer.v1.scorer_pb2 import (
    SHARE_SOURCE_LOG_PROBABILITIES,
    SHARE_SOURCE_STATED,
    Method,
    PlanScoreRequest,
    PlanScoreResponse,
    ScoreRequest,
)
from services.scorer import baselines
from services.scorer.baselines import Predictor
from services.scorer.evidence import Evidence, selection
from services.scorer.methods.base import (
    JUDGES,
    Writer,
    evidence_of,
    other_feature_pattern,
    unscorable,
)
from services.scorer.methods.items import simulate_item
from services.scorer.methods.sample import UNPREDICTED
from services.scorer.methods.shown import heldout
from services.scorer.predictions import Predictions
from services.scorer.results import Counts, Measured, nothing_scored, result
from services.scorer.statistics.estimate import Estimate, Floats, undefined
from services.scorer.statistics.simulation import METRICS, Simulations, simulation_scores

TOP, SPREAD, SILENT = 5, 5, 10
CALIBRATION_TOP = CALIBRATION_SILENT = 4

_NOTHING = "no held-out window has a simulation"


@dataclass(frozen=True)
class Example:
    """A window with its simulation.

    Attributes:
        window: with activations.
        measured: shares of the reference maximum, shape [tokens].
        predicted: the same simulated; None where the judge failed.
    """

    window: Window
    measured: Floats
    predicted: Floats | None


class Simulation:
    """OpenAI's simulation scores with the variants of others."""

    declaration = Method(
        name="simulation",
        version="1",
        description="Simulates the activation at every token of held-out windows.",
        selections=(
            selection(SPLIT_HELDOUT, WINDOW_STRATEGY_TOP, 20),
            selection(SPLIT_HELDOUT, WINDOW_STRATEGY_QUANTILE, 50),
            selection(SPLIT_HELDOUT, WINDOW_STRATEGY_NON_ACTIVATING, 50),
            *baselines.SELECTIONS,
        ),
        metrics=METRICS,
        judges=JUDGES,
    )
    insensitive = frozenset(declaration.metrics)

    async def plan(self, request: PlanScoreRequest, writer: Writer) -> PlanScoreResponse:
        """One SIMULATE item per window; no texts."""
        if unscorable(request):
            return PlanScoreResponse()
        drawn, calibration = _drawn(evidence_of(request), request.options.seed)
        unique = {w.name: w for w in (*drawn, *calibration)}
        return PlanScoreResponse(judge_items=[simulate_item(unique[n]) for n in sorted(unique)])

    def score(self, request: ScoreRequest) -> MethodResult:
        """All metrics with the four baselines."""
        if reason := unscorable(request):
            return nothing_scored(self, request, reason, SPLIT_HELDOUT)
        evidence, seed = evidence_of(request), request.options.seed
        predictions = Predictions(request.predictions)

        def judged(window: Window) -> Floats | None:
            return predictions.shares(window.name, len(window.tokens.token_ids))

        scored, fitted = (_examples(evidence, w, judged) for w in _drawn(evidence, seed))
        values = _estimates(scored, fitted, seed)
        others = {
            b.name: _of_baseline(b, scored, fitted)
            for b in baselines.fit(evidence, other_feature_pattern(request))
        }
        answered = [e for e in scored if e.predicted is not None]
        active = sum(float(e.measured.max()) > 0 for e in answered)
        counts = Counts(active, len(answered) - active, len(scored) - len(answered))
        note = _note(predictions, [e.window.name for e in (*scored, *fitted)])
        measured = {
            metric: Measured(
                values[metric], counts, {n: o[metric] for n, o in others.items()}, note
            )
            for metric in self.declaration.metrics
        }
        return result(self, request, measured, _rows(scored, fitted), SPLIT_HELDOUT)


def _drawn(evidence: Evidence, seed: int) -> tuple[list[Window], list[Window]]:
    """The scored HELDOUT windows and the EXPLAIN windows that the line is fitted on."""
    top = evidence.windows(SPLIT_HELDOUT, WINDOW_STRATEGY_TOP)[:TOP]
    names = {w.name for w in top}
    spread = heldout(evidence, WINDOW_STRATEGY_QUANTILE, SPREAD, seed)
    silent = heldout(evidence, WINDOW_STRATEGY_NON_ACTIVATING, SILENT, seed)
    calibration = [
        *evidence.windows(SPLIT_EXPLAIN, WINDOW_STRATEGY_TOP)[:CALIBRATION_TOP],
        *evidence.windows(SPLIT_EXPLAIN, WINDOW_STRATEGY_NON_ACTIVATING)[:CALIBRATION_SILENT],
    ]
    return [*top, *(w for w in spread if w.name not in names), *silent], calibration


def _examples(
    evidence: Evidence, windows: Sequence[Window], predict: Callable[[Window], Floats | None]
) -> list[Example]:
    return [Example(w, evidence.shares(w), predict(w)) for w in windows]


def _simulations(examples: Sequence[Example]) -> Simulations:
    answered = [(e, e.predicted) for e in examples if e.predicted is not None]
    return Simulations(
        predicted=[p for _, p in answered],
        measured=[e.measured for e, _ in answered],
        documents=[e.window.document for e, _ in answered],
    )


def _estimates(
    scored: Sequence[Example], fitted: Sequence[Example], seed: int | None
) -> dict[str, Estimate]:
    simulated = _simulations(scored)
    if not simulated.predicted:
        return dict.fromkeys(METRICS, undefined(_NOTHING))
    return simulation_scores(simulated, _simulations(fitted), seed)


def _of_baseline(
    predictor: Predictor, scored: Sequence[Example], fitted: Sequence[Example]
) -> dict[str, Estimate]:
    """A baseline on the windows that the explanation was simulated on."""
    predict = predictor.predict
    if predict is None:
        return dict.fromkeys(METRICS, undefined(predictor.undefined_reason))

    def repredicted(examples: Sequence[Example]) -> list[Example]:
        return [
            replace(e, predicted=predict(e.window)) for e in examples if e.predicted is not None
        ]

    return _estimates(repredicted(scored), repredicted(fitted), seed=None)


def _note(predictions: Predictions, items: Sequence[str]) -> str:
    sources = [predictions.share_source(item) for item in items]
    stated = sources.count(SHARE_SOURCE_STATED)
    if not stated:
        return ""
    expected = sources.count(SHARE_SOURCE_LOG_PROBABILITIES)
    return (
        f"stated numbers in {stated} of {stated + expected} simulated windows: "
        "no log-probabilities for them"
    )


def _rows(scored: Sequence[Example], fitted: Sequence[Example]) -> list[ScoreRow]:
    return [
        ScoreRow(
            item=e.window.name,
            predicted=None if e.predicted is None else float(e.predicted.max()),
            measured=float(e.measured.max()),
            weight=1.0,
            excluded_reason=UNPREDICTED if e.predicted is None else reason,
        )
        for examples, reason in ((scored, ""), (fitted, "only for the calibration"))
        for e in examples
    ]
