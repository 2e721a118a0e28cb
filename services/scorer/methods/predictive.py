"""Predictive accuracy (SAGE, arXiv 2511.20820): how well predictions follow the feature
token by token on held-out exemplars.

The HELDOUT exemplars are the 100 strongest windows that were sent: an index keeps the very
strongest whole and samples the others, so both kinds are ranked together. The ten
strongest are left out and 4, 3 and 3 are drawn from the ranks up to 40 %, 70 % and 100 %.
Each is cut to its peak and at most five tokens to either side; what stands before is
context.

- `pearson_mean`: mean of Pearson's r per exemplar, over those that have one (the paper).
- `pearson_pooled`: one r over all tokens of all exemplars (the published code).
- `pearson_matched`: one r over the same tokens and those of as many silent HELDOUT
  windows, each cut to the place and length of the exemplar that it is matched with.

Too few exemplars to draw ten (`bands.enough`), or fewer than five with a prediction, leave
all three undefined, where the published code reports 0; an exemplar without a
prediction, or with one of another length, counts in none. The simulator's published
expected value over digit log-probabilities is `statistics.expected`; our judges answer a
number per token. Intervals: bootstrap over documents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from saexplain.common.v1.score_pb2 import MethodResult, ScoreRow
from saexplain.common.v1.text_pb2 import TokenSpan
from saexplain.common.v1.window_pb2 import (
    SPLIT_HELDOUT,
    WINDOW_STRATEGY_NON_ACTIVATING,
    WINDOW_STRATEGY_RANDOM_ACTIVE,
    WINDOW_STRATEGY_TOP,
    Window,
)
from saexplain.scorer.v1.scorer_pb2 import (
    Method,
    PlanScoreRequest,
    PlanScoreResponse,
    ScoreRequest,
)
from services.scorer import baselines
from services.scorer.evidence import Evidence, max_activations, selection
from services.scorer.methods.base import (
    JUDGES,
    Writer,
    evidence_of,
    other_feature_pattern,
    unscorable,
)
from services.scorer.methods.items import predict_item
from services.scorer.methods.sample import UNPREDICTED
from services.scorer.predictions import Predictions
from services.scorer.results import Counts, Measured, nothing_scored, result
from services.scorer.statistics.bands import draw_ranks, enough
from services.scorer.statistics.correlation import (
    pearson,
    pearson_of_sums,
    pearson_sums,
    per_example,
)
from services.scorer.statistics.estimate import Estimate, Floats, defined, undefined
from services.scorer.statistics.intervals import ClusterBootstrap

REACH = 5
"""Tokens on either side of the peak."""

CONTEXT = 16
"""Tokens shown to the left of the cut."""

RANKED = 100
"""Exemplars that the bands are drawn from, at most."""

MIN_EXAMPLES = 5
"""Fewer predicted exemplars say nothing (as published)."""

_RANGE = (-1.0, 1.0)


@dataclass(frozen=True)
class Example:
    """A cut window with its prediction.

    Attributes:
        window: the cut.
        measured: measured shares of the reference maximum, shape [tokens].
        predicted: predicted shares, same shape; None where the judge failed.
    """

    window: Window
    measured: Floats
    predicted: Floats | None


class Predictive:
    """SAGE's predictive accuracy in three variants."""

    declaration = Method(
        name="predictive",
        version="2",
        description="Predicts the activation at every token of held-out exemplars.",
        selections=(
            selection(SPLIT_HELDOUT, WINDOW_STRATEGY_TOP, RANKED),
            selection(SPLIT_HELDOUT, WINDOW_STRATEGY_RANDOM_ACTIVE, 300),
            selection(SPLIT_HELDOUT, WINDOW_STRATEGY_NON_ACTIVATING, 500),
            *baselines.SELECTIONS,
        ),
        metrics=("pearson_mean", "pearson_pooled", "pearson_matched"),
        by_default=True,
        judges=JUDGES,
    )
    # Exemplars hold what the feature fires on, and ten silent windows next to nothing of a
    # rare unrelated part.
    insensitive = frozenset(declaration.metrics)

    async def plan(self, request: PlanScoreRequest, writer: Writer) -> PlanScoreResponse:
        """One PREDICT item per cut window; no texts."""
        if unscorable(request):
            return PlanScoreResponse()
        exemplars, silent = _drawn(evidence_of(request), request.options.seed)
        cuts = sorted([*exemplars, *silent], key=lambda w: w.name)
        return PlanScoreResponse(judge_items=[predict_item(w) for w in cuts])

    def score(self, request: ScoreRequest) -> MethodResult:
        """All three, with the four baselines."""
        if reason := unscorable(request):
            return nothing_scored(self, request, reason, SPLIT_HELDOUT)
        evidence, seed = evidence_of(request), request.options.seed
        predictions = Predictions(request.predictions)

        def judged(window: Window) -> Floats | None:
            return predictions.shares(window.name, len(window.tokens.token_ids))

        exemplars, silent = (_examples(evidence, w, judged) for w in _drawn(evidence, seed))
        values = _estimates(exemplars, silent, seed)
        trivial = baselines.fit(evidence, other_feature_pattern(request))
        others = {b.name: _baseline(b, exemplars, silent) for b in trivial}
        measured = {
            metric: Measured(
                values[metric],
                _counts(exemplars, silent if metric == "pearson_matched" else []),
                {name: estimates[metric] for name, estimates in others.items()},
            )
            for metric in self.declaration.metrics
        }
        return result(self, request, measured, _rows([*exemplars, *silent]), SPLIT_HELDOUT)


def _drawn(evidence: Evidence, seed: int) -> tuple[list[Window], list[Window]]:
    """The cut exemplars and the cut silent windows matched with them, in the same order."""
    ranked = _ranked(evidence)
    if not enough(len(ranked)):
        return [], []
    exemplars = [ranked[rank] for rank in draw_ranks(len(ranked), seed)]
    peaks = [int(np.argmax(w.activations)) for w in exemplars]
    silent = evidence.windows(SPLIT_HELDOUT, WINDOW_STRATEGY_NON_ACTIVATING)
    rng = np.random.default_rng(seed % 2**64)
    chosen = sorted(silent, key=lambda w: w.name)
    picks = rng.permutation(len(chosen))[: len(exemplars)].tolist()
    cuts = [cut(w, p) for w, p in zip(exemplars, peaks, strict=True)]
    # zip stops at the shorter: with too few silent windows there are fewer matches.
    matched = [cut(chosen[i], peak) for i, peak in zip(picks, peaks, strict=False)]
    return cuts, matched


def _ranked(evidence: Evidence) -> list[Window]:
    """The exemplars, strongest first, each once."""
    sent = evidence.windows(SPLIT_HELDOUT, WINDOW_STRATEGY_TOP, WINDOW_STRATEGY_RANDOM_ACTIVE)
    windows = list({w.name: w for w in sent}.values())
    order = np.argsort(-max_activations(windows), kind="stable")
    return [windows[place] for place in order[:RANKED]]


def cut(window: Window, peak: int) -> Window:
    """The window's tokens from five before `peak` to five behind it, within its bounds.

    `peak` beyond the window's end is taken as its last token.
    """
    peak = min(peak, len(window.tokens.token_ids) - 1)
    begin, end = max(0, peak - REACH), peak + REACH + 1
    left_ids = [*window.left_context.token_ids, *window.tokens.token_ids[:begin]][-CONTEXT:]
    left = [*window.left_context.token_bytes, *window.tokens.token_bytes[:begin]][-CONTEXT:]
    return Window(
        name=window.name,
        document=window.document,
        left_context=TokenSpan(token_ids=left_ids, token_bytes=left),
        tokens=TokenSpan(
            token_ids=window.tokens.token_ids[begin:end],
            token_bytes=window.tokens.token_bytes[begin:end],
        ),
        activations=window.activations[begin:end],
        inclusion_probability=1.0,
        context_position=window.context_position + begin,
    )


def _examples(
    evidence: Evidence, windows: Sequence[Window], predict: Callable[[Window], Floats | None]
) -> list[Example]:
    return [Example(w, evidence.shares(w), predict(w)) for w in windows]


def _baseline(
    predictor: baselines.Predictor, exemplars: Sequence[Example], silent: Sequence[Example]
) -> dict[str, Estimate]:
    """A baseline on the examples that the explanation was predicted on."""
    predict = predictor.predict
    if predict is None:
        reason = undefined(predictor.undefined_reason)
        return dict.fromkeys(Predictive.declaration.metrics, reason)

    def repredicted(examples: Sequence[Example]) -> list[Example]:
        return [
            replace(e, predicted=predict(e.window)) for e in examples if e.predicted is not None
        ]

    return _estimates(repredicted(exemplars), repredicted(silent), seed=None)


def _estimates(
    exemplars: Sequence[Example], silent: Sequence[Example], seed: int | None
) -> dict[str, Estimate]:
    """The three metrics; with intervals where a seed is given."""
    answered = [e for e in exemplars if e.predicted is not None]
    quiet = [e for e in silent if e.predicted is not None]
    if len(answered) < MIN_EXAMPLES:
        few = undefined(
            f"fewer than {MIN_EXAMPLES} held-out exemplars have a prediction"
            if exemplars
            else "too few held-out exemplars to draw ten from the bands"
        )
        return dict.fromkeys(Predictive.declaration.metrics, few)
    matched = (
        _pooled([*answered, *quiet], seed)
        if quiet
        else undefined("no silent held-out window has a prediction")
    )
    return {
        "pearson_mean": _mean(answered, seed),
        "pearson_pooled": _pooled(answered, seed),
        "pearson_matched": matched,
    }


def _mean(examples: Sequence[Example], seed: int | None) -> Estimate:
    each = [(e, per_example([_prediction(e)], [e.measured])) for e in examples]
    known = [(e.window.document, rs[0]) for e, rs in each if rs]
    if not known:
        return undefined("no exemplar has a correlation")
    values = np.array([r for _, r in known])
    estimate = defined(float(values.mean()))
    if seed is None:
        return estimate
    bootstrap = ClusterBootstrap([d for d, _ in known], seed)
    sums = bootstrap.sums(np.stack([values, np.ones_like(values)], axis=1))
    return estimate.within(bootstrap.bounds(sums[:, 0] / sums[:, 1], _RANGE))


def _pooled(examples: Sequence[Example], seed: int | None) -> Estimate:
    predicted = np.concatenate([_prediction(e) for e in examples])
    measured = np.concatenate([e.measured for e in examples])
    estimate = pearson(predicted, measured)
    if seed is None or estimate.value is None:
        return estimate
    documents = [e.window.document for e in examples for _ in e.measured]
    bootstrap = ClusterBootstrap(documents, seed)
    moments = pearson_sums(predicted, measured, np.ones_like(measured))
    return estimate.within(bootstrap.bounds(pearson_of_sums(bootstrap.sums(moments)), _RANGE))


def _prediction(example: Example) -> Floats:
    if example.predicted is None:
        raise ValueError("an example without a prediction has no place in an estimate")
    return example.predicted


def _counts(exemplars: Sequence[Example], silent: Sequence[Example]) -> Counts:
    examples = [*exemplars, *silent]
    answered = [e for e in examples if e.predicted is not None]
    active = sum(float(e.measured.max()) >= baselines.ACTIVE_SHARE for e in answered)
    return Counts(active, len(answered) - active, len(examples) - len(answered))


def _rows(examples: Sequence[Example]) -> list[ScoreRow]:
    return [
        ScoreRow(
            item=e.window.name,
            predicted=None if e.predicted is None else float(e.predicted.max()),
            measured=float(e.measured.max()),
            weight=1.0,
            excluded_reason=UNPREDICTED if e.predicted is None else "",
        )
        for e in examples
    ]
