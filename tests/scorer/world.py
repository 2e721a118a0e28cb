"""A small world in which everything is known: a vocabulary, a feature that is a function of
tokens, a corpus with its full population of windows, and samples of it.

The feature fires on three words with different strengths, and weakly on a fourth. Reading
the population instead of a sample gives the exact value that an estimate aims at.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np

from saexplain.activation.v1.activation_pb2 import EncodedText, WindowList
from saexplain.common.v1.explanation_pb2 import EXPLANATION_STATUS_EXPLAINED, Explanation
from saexplain.common.v1.feature_pb2 import FeatureFacts, SplitFacts
from saexplain.common.v1.pattern_pb2 import Pattern, PatternPart, PatternRule, TokenMatcher
from saexplain.common.v1.text_pb2 import TokenSpan
from saexplain.common.v1.window_pb2 import (
    NEGATIVE_RUNG_LEXICAL,
    NEGATIVE_RUNG_NEIGHBOR,
    NEGATIVE_RUNG_SAME_TOKEN,
    SPLIT_EXPLAIN,
    SPLIT_HELDOUT,
    WINDOW_STRATEGY_NEAR_MISS,
    WINDOW_STRATEGY_NON_ACTIVATING,
    WINDOW_STRATEGY_QUANTILE,
    WINDOW_STRATEGY_RANDOM_ACTIVE,
    WINDOW_STRATEGY_TOP,
    Split,
    Window,
    WindowSelection,
)
from saexplain.scorer.v1.scorer_pb2 import (
    JudgeRequest,
    MethodOptions,
    PlanScoreRequest,
    Prediction,
    ScoreRequest,
    WrittenText,
)
from services.common.tensors import to_tensor

REFERENCE_MAX = 8.0
STRENGTHS = {b" alpha": 1.0, b" beta": 0.9, b" gamma": 0.75}
WEAK = b" faint"
TRUE_SHARES = {**STRENGTHS, WEAK: 0.2}
UNRELATED = b" extra"
WORDS = [b" w" + bytes([97 + i // 8, 97 + i % 8]) for i in range(60)]
VOCABULARY = sorted([*WORDS, *STRENGTHS, WEAK, UNRELATED])
RUNGS = (NEGATIVE_RUNG_LEXICAL, NEGATIVE_RUNG_NEIGHBOR, NEGATIVE_RUNG_SAME_TOKEN)
WINDOW = 12
POPULATION = 1500


def token_id(token: bytes) -> int:
    """Ids of known words; other words get one of their own from their bytes."""
    if token in VOCABULARY:
        return VOCABULARY.index(token)
    return 1000 + int.from_bytes(token[-3:], "big") % 40_000


def span(tokens: Iterable[bytes]) -> TokenSpan:
    tokens = list(tokens)
    return TokenSpan(token_ids=map(token_id, tokens), token_bytes=tokens)


def activations(tokens: Sequence[bytes]) -> list[float]:
    """The feature: the strength of the word times the reference maximum."""
    return [REFERENCE_MAX * TRUE_SHARES.get(t, 0.0) for t in tokens]


@lru_cache(maxsize=4)
def population(split: Split.ValueType) -> tuple[Window, ...]:
    """All windows of a split, three to a document. A window holds a strong trigger in one
    case of 8, else the unrelated word in one of 16; the weak word in one of 7. Activations
    vary from window to window."""
    rng = np.random.default_rng(int(split))
    windows = []
    for i in range(POPULATION):
        tokens = [WORDS[k] for k in rng.integers(0, len(WORDS), WINDOW)]
        if rng.random() < 1 / 8:
            tokens[int(rng.integers(2, WINDOW))] = list(STRENGTHS)[int(rng.integers(0, 3))]
        elif rng.random() < 1 / 16:
            tokens[int(rng.integers(2, WINDOW))] = UNRELATED
        if rng.random() < 1 / 7:
            tokens[int(rng.integers(2, WINDOW))] = WEAK
        values = [v * float(1 - 0.2 * (i % 7) / 7) for v in activations(tokens)]
        windows.append(
            Window(
                name=f"indexes/tiny/windows/{int(split) * POPULATION + i}",
                document=f"d{int(split)}.{i // 3}",
                split=split,
                tokens=span(tokens),
                left_context=span([WORDS[int(k)] for k in rng.integers(0, len(WORDS), 4)]),
                activations=values,
                max_activation=max(values),
                inclusion_probability=1.0,
                context_position=4,
            )
        )
    return tuple(windows)


def window_list(windows: Iterable[Window], split: int, strategy: int, share: float) -> WindowList:
    """A list of copies with the strategy and inclusion probability written in."""
    selection = WindowSelection(split=split, strategy=strategy, count=1000)
    result = WindowList(selection=selection)
    for window in windows:
        copy = result.windows.add()
        copy.CopyFrom(window)
        copy.strategy, copy.inclusion_probability = strategy, share
    return result


def lists(active: float = 1.0, silent: float = 0.3, seed: int = 0) -> list[WindowList]:
    """Samples of both splits: RANDOM_ACTIVE and NON_ACTIVATING with these inclusion
    probabilities, TOP, and HELDOUT near misses (windows with the weak word only)."""
    rng = np.random.default_rng(seed)
    result = []
    for split in (SPLIT_EXPLAIN, SPLIT_HELDOUT):
        everything = population(split)
        firing = [w for w in everything if w.max_activation > 0]
        quiet = [w for w in everything if w.max_activation == 0]
        for windows, strategy, share in (
            (firing, WINDOW_STRATEGY_RANDOM_ACTIVE, active),
            (quiet, WINDOW_STRATEGY_NON_ACTIVATING, silent),
        ):
            kept = [w for w in windows if rng.random() < share]
            result.append(window_list(kept, split, strategy, share))
        top = sorted(firing, key=lambda w: -w.max_activation)[:60]
        result.append(window_list(top, split, WINDOW_STRATEGY_TOP, 1.0))
    result.append(quantiles())
    near = [w for w in population(SPLIT_HELDOUT) if UNRELATED in w.tokens.token_bytes]
    near = [w for w in near if w.max_activation < 0.1 * REFERENCE_MAX][:40]
    result.append(window_list(near, SPLIT_HELDOUT, WINDOW_STRATEGY_NEAR_MISS, 1.0))
    for place, window in enumerate(result[-1].windows):
        window.negative_rung = RUNGS[place % len(RUNGS)]
    return result


def quantiles(per_fifth: int = 10) -> WindowList:
    """HELDOUT windows in which the feature fires, as many from each fifth of the maximum."""
    firing = [w for w in population(SPLIT_HELDOUT) if w.max_activation > 0]
    firing.sort(key=lambda w: w.max_activation)
    size = len(firing) // 5
    chosen = [w for q in range(5) for w in firing[q * size : q * size + per_fifth]]
    result = window_list(chosen, SPLIT_HELDOUT, WINDOW_STRATEGY_QUANTILE, 1.0)
    for place, window in enumerate(result.windows):
        window.stratum = place // per_fifth
    return result


def facts() -> FeatureFacts:
    result = FeatureFacts(feature="saes/tiny/features/1", reference_max=REFERENCE_MAX)
    for split in (SPLIT_EXPLAIN, SPLIT_HELDOUT):
        firing = sum(w.max_activation > 0 for w in population(split))
        result.splits.append(
            SplitFacts(split=split, window_count=POPULATION, active_window_count=firing)
        )
    return result


def pattern(words: Iterable[bytes], strength: float | None = None) -> Pattern:
    """One part per word, with its true strength unless another is given."""
    return Pattern(
        parts=[
            PatternPart(
                label=w.decode().strip(),
                rules=[
                    PatternRule(
                        token=TokenMatcher(literal=w),
                        strength=TRUE_SHARES.get(w, 1.0) if strength is None else strength,
                    )
                ],
            )
            for w in words
        ]
    )


def explanation(*words: bytes, text: str = "fires on some words") -> Explanation:
    return Explanation(
        status=EXPLANATION_STATUS_EXPLAINED,
        label=text,
        description=text,
        pattern=pattern(words or STRENGTHS),
    )


def options(method: str, judge: str = "pattern", seed: int = 7) -> MethodOptions:
    return MethodOptions(method=method, judge=judge, seed=seed)


def encode(texts: Sequence[WrittenText]) -> list[EncodedText]:
    """Cuts texts before every space and evaluates the feature, as the activation service
    would."""
    result = []
    for index, text in enumerate(texts):
        tokens = tokenize(text.text)
        values = np.array(activations(tokens), np.float32)[:, None]
        result.append(
            EncodedText(text_index=index, tokens=span(tokens), activations=to_tensor(values))
        )
    return result


def tokenize(text: str) -> list[bytes]:
    pieces = text.replace(" ", "\0 ").split("\0")
    return [p.encode() for p in pieces if p]


async def run(scorer, judge, writer, explained: Explanation, method: str, **more):
    """Plan, measure, judge and score, as the orchestrator does."""
    windows = more.pop("windows", None) or lists()
    chosen = more.pop("options", None) or options(method)
    other, scope = more.pop("other", None), more.pop("scope", None)
    plan = await scorer.plan(
        PlanScoreRequest(
            options=chosen,
            scope=scope,
            explanation=explained,
            windows=windows,
            facts=facts(),
            other_feature_pattern=other,
        ),
        writer,
    )
    predictions: list[Prediction] = []
    if plan.judge_items:
        request = JudgeRequest(options=chosen, explanation=explained, items=plan.judge_items)
        predictions, _ = await judge.judge(request)
    return scorer.score(
        ScoreRequest(
            options=chosen,
            explanation=explained,
            facts=facts(),
            windows=windows,
            texts=plan.texts,
            encoded_texts=encode(plan.texts),
            predictions=predictions,
            other_feature_pattern=other,
        )
    )


def by_metric(result) -> dict:
    return {score.metric: score for score in result.scores}
