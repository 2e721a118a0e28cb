"""Which candidate is chosen: corpus F1 on SELECT at natural prevalence. Pure code.

A window counts as active, predicted or measured, at or above the ACTIVE threshold; its
weight is the inverse of its inclusion probability. What selects does not report: the
number is kept with the candidate and enters no score.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence

from saexplain.activation.v1 import activation_pb2
from saexplain.common.v1 import explanation_pb2, pattern_pb2, window_pb2
from saexplain.explanation.v1 import dossier_pb2
from saexplain.scorer.v1 import scorer_pb2
from services.common.pattern import compile_pattern

JUDGED_PER_LIST = 12
"""Windows of each SELECT list that a judge gets; two lists make 24 (method, 4.8)."""

Weighed = tuple[window_pb2.Window, float]
"""A window with its weight in an estimate at natural prevalence."""

SCORABLE = frozenset(
    {
        explanation_pb2.EXPLANATION_STATUS_EXPLAINED,
        explanation_pb2.EXPLANATION_STATUS_POSITIONAL,
    }
)
"""Statuses of explanations that predict something."""


def judged_windows(
    lists: Sequence[activation_pb2.WindowList], seed: int
) -> list[tuple[window_pb2.Window, float]]:
    """A seeded sample of every list with its weights in an estimate at natural
    prevalence: the window's own, times the list's length over the sample's."""
    sample: list[tuple[window_pb2.Window, float]] = []
    for ordinal, windows in enumerate(lists):
        # Not for secrets: a seeded choice that has to be the same on every replay.
        chosen = random.Random(f"{seed}/{ordinal}").sample(
            range(len(windows.windows)), min(JUDGED_PER_LIST, len(windows.windows))
        )
        scale = len(windows.windows) / max(len(chosen), 1)
        for index in sorted(chosen):
            window = windows.windows[index]
            sample.append((window, scale / window.inclusion_probability))
    return sample


def all_windows(
    lists: Iterable[activation_pb2.WindowList],
) -> list[tuple[window_pb2.Window, float]]:
    """Every window with its weight."""
    return [(w, 1.0 / w.inclusion_probability) for windows in lists for w in windows.windows]


def judge_items(
    windows: Iterable[tuple[window_pb2.Window, float]],
) -> list[scorer_pb2.JudgeItem]:
    """The windows as texts, without their truth: whether the explanation covers one is
    all that a choice needs, at a fifth of the tokens of a prediction token by token. A
    blank text is not asked about."""
    texts = (
        (window.name, b"".join(window.tokens.token_bytes).decode("utf-8", errors="replace"))
        for window, _ in windows
    )
    return [
        scorer_pb2.JudgeItem(id=name, task=scorer_pb2.JUDGE_TASK_VERIFY, text=text)
        for name, text in texts
        if text.strip()
    ]


def predicted_by_pattern(
    pattern: pattern_pb2.Pattern, windows: Iterable[tuple[window_pb2.Window, float]]
) -> dict[str, float]:
    """Largest predicted share of every window."""
    compiled = compile_pattern(pattern)
    return {
        window.name: float(
            compiled.predict(window.tokens, window.left_context, window.context_position).max()
        )
        for window, _ in windows
    }


def predicted_by_judge(predictions: Iterable[scorer_pb2.Prediction]) -> dict[str, float]:
    """1 for every item that the explanation covers, 0 for every other that has an answer."""
    return {
        p.item_id: float(p.covered)
        for p in predictions
        if p.status == scorer_pb2.PREDICTION_STATUS_OK
    }


def corpus_f1(
    windows: Iterable[tuple[window_pb2.Window, float]],
    predicted: Mapping[str, float],
    reference_max: float,
    active_share: float,
) -> float | None:
    """Weighted F1; windows without a prediction are left out.

    Returns:
        A value in [0, 1]; None where no window is active, measured or predicted.
    """
    hit = missed = wrong = 0.0
    for window, weight in windows:
        if window.name not in predicted:
            continue
        says = predicted[window.name] >= active_share
        truth = window.max_activation >= active_share * reference_max
        hit += weight * (says and truth)
        missed += weight * (truth and not says)
        wrong += weight * (says and not truth)
    whole = 2 * hit + missed + wrong
    return 2 * hit / whole if whole else None


def choose(candidates: Sequence[dossier_pb2.Candidate]) -> int | None:
    """Index of the best candidate: one that predicts something before one that does not,
    then by its score on SELECT, then the later one, which has seen more.

    Returns:
        None where there is no candidate.
    """
    if not candidates:
        return None

    def rank(index: int) -> tuple[bool, float, int]:
        candidate = candidates[index]
        score = candidate.select_score if candidate.HasField("select_score") else -1.0
        return candidate.explanation.status in SCORABLE, score, candidate.round

    return max(range(len(candidates)), key=rank)
