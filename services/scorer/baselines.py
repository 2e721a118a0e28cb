"""What trivial explanations predict: every score stands beside theirs.

- `constant`: every token activates. The F1 of "always"; its correlation is undefined.
- `other_feature`: the pattern of another feature of the same density.
- `top_token`: the commonest peak token of the strongest EXPLAIN exemplars, and only it.
- `token_table`: the mean activation of each token, fitted on the EXPLAIN sample with its
  weights; tokens that are not in it count as silent.

The table's shares are scaled by one factor, fitted on the same EXPLAIN windows, that puts
its best F1 threshold at the threshold of the scores: a mean rarely reaches half of the
maximum, and without the factor the table would lose F1 to its scale alone. Correlations
do not see the factor.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from saexplain.common.v1.pattern_pb2 import (
    TOKEN_CLASS_ANY,
    Pattern,
    PatternPart,
    PatternRule,
    TokenMatcher,
)
from saexplain.common.v1.text_pb2 import TokenSpan
from saexplain.common.v1.window_pb2 import (
    SPLIT_EXPLAIN,
    WINDOW_STRATEGY_NON_ACTIVATING,
    WINDOW_STRATEGY_RANDOM_ACTIVE,
    WINDOW_STRATEGY_TOP,
)
from services.common.pattern import compile_pattern
from services.scorer.evidence import Evidence, WeightedWindow, selection, weighted
from services.scorer.statistics.classification import best_f1_threshold
from services.scorer.statistics.estimate import Floats

ACTIVE_SHARE = 0.5
"""A window counts as active at or above this share of the reference maximum."""

NAMES = ("constant", "other_feature", "top_token", "token_table")

SELECTIONS = (
    selection(SPLIT_EXPLAIN, WINDOW_STRATEGY_TOP, 20),
    selection(SPLIT_EXPLAIN, WINDOW_STRATEGY_RANDOM_ACTIVE, 300),
    selection(SPLIT_EXPLAIN, WINDOW_STRATEGY_NON_ACTIVATING, 300),
)
"""What the baselines are fitted on."""

_MAX_PARTS, _MAX_RULES = 5, 20


class Stretch(Protocol):
    """Tokens in their context: a window, a passage or an item of a judge."""

    @property
    def tokens(self) -> TokenSpan:
        """Where to predict."""

    @property
    def left_context(self) -> TokenSpan:
        """What stands before them, nearest last."""

    @property
    def context_position(self) -> int:
        """Tokens before the first of `tokens` in the context."""


Predict = Callable[[Stretch], Floats]
"""A stretch to a share of the reference maximum per token."""


@dataclass(frozen=True)
class Predictor:
    """A trivial explanation.

    Attributes:
        name: one of `NAMES`.
        predict: its prediction; None where it could not be fitted.
        pattern: the same as a pattern, for writing texts; a table is cut to the 100
            strongest tokens. None where there is none.
        undefined_reason: why there is no prediction; empty where there is one.
    """

    name: str
    predict: Predict | None
    pattern: Pattern | None = None
    undefined_reason: str = ""


def fit(evidence: Evidence, other_feature: Pattern | None) -> list[Predictor]:
    """The four baselines in the order of `NAMES`, fitted on EXPLAIN windows only.

    `other_feature` is the density-matched feature's pattern, None where there is none.
    """
    return [_constant(), _other_feature(other_feature), _top_token(evidence), _table(evidence)]


def of_pattern(pattern: Pattern) -> Predict:
    """The prediction of a pattern.

    Raises:
        InvalidArgument: the pattern is not valid.
    """
    compiled = compile_pattern(pattern)
    return lambda at: compiled.predict(at.tokens, at.left_context, at.context_position).astype(
        np.float64
    )


def _constant() -> Predictor:
    matcher = TokenMatcher(token_class=TOKEN_CLASS_ANY)
    return Predictor(
        "constant", lambda at: np.ones(len(at.tokens.token_ids)), _pattern([(matcher, 1.0)])
    )


def _other_feature(pattern: Pattern | None) -> Predictor:
    if pattern is None or not pattern.parts:
        return Predictor("other_feature", None, None, "no other feature's pattern was sent")
    return Predictor("other_feature", of_pattern(pattern), pattern)


def _top_token(evidence: Evidence) -> Predictor:
    peaks: Counter[tuple[int, bytes]] = Counter()
    for window in evidence.windows(SPLIT_EXPLAIN, WINDOW_STRATEGY_TOP):
        peak = int(np.argmax(window.activations))
        peaks[window.tokens.token_ids[peak], window.tokens.token_bytes[peak]] += 1
    if not peaks:
        return Predictor("top_token", None, None, "there are no EXPLAIN exemplars")
    # The exemplars are ordered by strength and a Counter keeps the order of first sight,
    # so that of equally common tokens the one with the strongest exemplar wins.
    (token_id, token_bytes), _ = peaks.most_common(1)[0]
    return Predictor(
        "top_token",
        lambda at: (_ids(at.tokens) == token_id).astype(np.float64),
        _pattern([(TokenMatcher(literal=token_bytes), 1.0)]),
    )


def _table(evidence: Evidence) -> Predictor:
    sample = weighted(
        evidence.windows(
            SPLIT_EXPLAIN, WINDOW_STRATEGY_RANDOM_ACTIVE, WINDOW_STRATEGY_NON_ACTIVATING
        )
    )
    if not sample or not evidence.reference_max > 0:
        return Predictor("token_table", None, None, "there is no EXPLAIN sample to fit it on")
    means, spelling = token_means(sample, evidence.reference_max)
    scale = ACTIVE_SHARE / _threshold(sample, means, evidence.reference_max)
    table = {token: mean * scale for token, mean in means.items()}
    strongest = sorted((t for t in table if table[t] > 0), key=lambda t: (-table[t], t))
    rules = [
        (TokenMatcher(literal=spelling[token]), min(table[token], 2.0))
        for token in strongest[: _MAX_PARTS * _MAX_RULES]
    ]
    return Predictor("token_table", lambda at: _look_up(table, at.tokens), _pattern(rules))


def token_means(
    sample: Sequence[WeightedWindow], reference_max: float
) -> tuple[dict[int, float], dict[int, bytes]]:
    """Weighted mean share of the reference maximum of every token id in the sample, and the
    token's bytes."""
    totals: defaultdict[int, float] = defaultdict(float)
    weights: defaultdict[int, float] = defaultdict(float)
    spelling: dict[int, bytes] = {}
    for item in sample:
        tokens = item.window.tokens
        triples = zip(tokens.token_ids, tokens.token_bytes, item.window.activations, strict=True)
        for token, text, value in triples:
            totals[token] += item.weight * value
            weights[token] += item.weight
            spelling[token] = text
    return {t: totals[t] / weights[t] / reference_max for t in totals}, spelling


def _threshold(
    sample: Sequence[WeightedWindow], means: Mapping[int, float], reference_max: float
) -> float:
    """Where the table's window maximum separates active EXPLAIN windows best, > 0."""
    scores = np.array([_look_up(means, s.window.tokens).max() for s in sample])
    maxima = np.array([max(s.window.activations) for s in sample])
    actual = maxima >= ACTIVE_SHARE * reference_max
    best = best_f1_threshold(scores, actual, np.array([s.weight for s in sample]))
    return best if best is not None and best > 0 else ACTIVE_SHARE


def _look_up(table: Mapping[int, float], tokens: TokenSpan) -> Floats:
    return np.array([table.get(token, 0.0) for token in tokens.token_ids], np.float64)


def _ids(tokens: TokenSpan) -> Floats:
    return np.asarray(tokens.token_ids, np.float64)


def _pattern(rules: Sequence[tuple[TokenMatcher, float]]) -> Pattern:
    parts = [
        PatternPart(rules=[PatternRule(token=m, strength=s) for m, s in rules[i : i + _MAX_RULES]])
        for i in range(0, len(rules), _MAX_RULES)
    ]
    return Pattern(parts=parts)
