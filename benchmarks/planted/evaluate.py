"""One planted feature or null through the lexical explainer: what it says, and how well that
predicts the feature's firing and the concept itself, beside the oracle rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.lexical_run import explain, gather
from benchmarks.lexical_sources import FolderSource
from benchmarks.planted.concepts import Concept
from saexplain.activation.v1.activation_pb2 import WindowList
from saexplain.common.v1.explanation_pb2 import Explanation
from saexplain.common.v1.feature_pb2 import FeatureFacts
from saexplain.common.v1.window_pb2 import Window
from saexplain.scorer.v1 import scorer_pb2
from services.common.pattern import predict_window
from services.scorer.methods.corpus import Corpus

Predict = Callable[[Window], Sequence[float]]
METRICS = ("f1", "pearson")
_WHOLE_CONTEXT = 127


@dataclass(frozen=True)
class Found:
    """What came out for one feature.

    Attributes:
        feature: its index.
        facts: what the index says of it.
        explanation: the explainer's.
        scores: by (who, against what, metric): who is `lexical` or `oracle`, against is
            `firing` or `concept`; None where undefined.
    """

    feature: int
    facts: FeatureFacts
    explanation: Explanation
    scores: dict[tuple[str, str, str], float | None]


async def evaluate(
    source: FolderSource, feature: int, concept: Concept | None, seed: int, rounds: int
) -> Found:
    """Explains from EXPLAIN, scores on HELDOUT. Without a concept there is no oracle and
    only firing to score against."""
    facts = await source.facts(feature)
    evidence = await gather(source, feature, facts, seed)
    explanation, _ = await explain(source, feature, evidence, seed, rounds)
    selections = Corpus().declaration.selections
    windows = await source.windows(feature, selections, seed, left_tokens=_WHOLE_CONTEXT)
    predictors: dict[str, Predict] = {"lexical": lambda w: _shares(explanation, w)}
    truths = {"firing": (facts, windows)}
    if concept is not None:
        held = _Held(concept)
        predictors["oracle"] = held.shares
        truths["concept"] = _with_truth(facts, windows, held.shares)
    scores = {
        (who, against, metric): value
        for who, predict in predictors.items()
        for against, (unit, listed) in truths.items()
        for metric, value in score(unit, listed, predict, seed).items()
    }
    return Found(feature, facts, explanation, scores)


def score(
    facts: FeatureFacts, windows: Sequence[WindowList], predict: Predict, seed: int
) -> dict[str, float | None]:
    """The corpus score's F1 and Pearson of any prediction; None where undefined."""
    unique = {w.name: w for listed in windows for w in listed.windows}
    request = scorer_pb2.ScoreRequest(
        options=scorer_pb2.MethodOptions(method="corpus", judge="pattern", seed=seed),
        explanation=Explanation(label="what is scored"),
        facts=facts,
        windows=windows,
        predictions=[
            scorer_pb2.Prediction(
                item_id=name,
                status=scorer_pb2.PREDICTION_STATUS_OK,
                shares=predict(unique[name]),
            )
            for name in sorted(unique)
        ],
    )
    found = {s.metric: s for s in Corpus().score(request).scores}
    return {m: found[m].value if found[m].HasField("value") else None for m in METRICS}


class _Held:
    """A concept's truth on windows, looked up once each."""

    def __init__(self, concept: Concept) -> None:
        self._concept = concept
        self._known: dict[str, list[float]] = {}

    def shares(self, window: Window) -> list[float]:
        """1 where the concept holds, else 0; the window must bring its whole left context."""
        if window.name not in self._known:
            left = list(window.left_context.token_bytes)
            if len(left) != window.context_position:
                raise ValueError(f"{window.name} lacks part of its left context")
            held: NDArray[np.bool_] = self._concept.holds([*left, *window.tokens.token_bytes])
            self._known[window.name] = held[len(left) :].astype(float).tolist()
        return self._known[window.name]


def _shares(explanation: Explanation, window: Window) -> list[float]:
    if not explanation.pattern.parts:
        return [0.0] * len(window.tokens.token_bytes)
    shares: list[float] = predict_window(explanation.pattern, window).tolist()
    return shares


def _with_truth(
    facts: FeatureFacts, windows: Sequence[WindowList], truth: Predict
) -> tuple[FeatureFacts, list[WindowList]]:
    """The same windows as if the concept were the activation."""
    unit = FeatureFacts()
    unit.CopyFrom(facts)
    unit.max_activation = unit.reference_max = 1.0
    changed = []
    for listed in windows:
        copy = WindowList()
        copy.CopyFrom(listed)
        for window in copy.windows:
            window.activations[:] = truth(window)
            window.max_activation = max(window.activations)
        changed.append(copy)
    return unit, changed
