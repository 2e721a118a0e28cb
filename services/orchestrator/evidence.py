"""What is fetched for whom: every count of windows of a run is in this module.

Explainers see EXPLAIN, rounds compete on SELECT, scores read HELDOUT.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from saexplain.activation.v1 import activation_pb2
from saexplain.agent.v1 import agent_pb2
from saexplain.common.v1 import feature_pb2, text_pb2, window_pb2
from services.common.errors import FailedPrecondition

LEFT_CONTEXT_TOKENS = 32
"""Tokens shown left of a window. Enough for any left condition of a pattern."""

REFERENCE_EXEMPLARS = 10
"""The reference maximum is the largest maximum among so many of the best exemplars."""

NEIGHBOR_TOKENS = 16
"""Peak tokens whose embedding neighbours are fetched."""

NEIGHBORS_PER_TOKEN = 8

_EXPLAIN = (
    (window_pb2.WINDOW_STRATEGY_TOP, 24),
    (window_pb2.WINDOW_STRATEGY_QUANTILE, 40),
    (window_pb2.WINDOW_STRATEGY_RANDOM_ACTIVE, 200),
    (window_pb2.WINDOW_STRATEGY_NON_ACTIVATING, 200),
    (window_pb2.WINDOW_STRATEGY_NEAR_MISS, 20),
)
_SELECT = (
    (window_pb2.WINDOW_STRATEGY_RANDOM_ACTIVE, 120),
    (window_pb2.WINDOW_STRATEGY_NON_ACTIVATING, 120),
)


def _selections(
    split: window_pb2.Split.ValueType,
    counts: Iterable[tuple[window_pb2.WindowStrategy.ValueType, int]],
) -> list[window_pb2.WindowSelection]:
    return [
        window_pb2.WindowSelection(strategy=strategy, split=split, count=count)
        for strategy, count in counts
    ]


def explain_selections() -> list[window_pb2.WindowSelection]:
    """What explainers see."""
    return _selections(window_pb2.SPLIT_EXPLAIN, _EXPLAIN)


def select_selections() -> list[window_pb2.WindowSelection]:
    """What candidates compete on: a sample that, weighted by its inclusion
    probabilities, stands for the split at natural prevalence."""
    return _selections(window_pb2.SPLIT_SELECT, _SELECT)


def check_split(
    lists: Iterable[activation_pb2.WindowList], allowed: frozenset[window_pb2.Split.ValueType]
) -> None:
    """Refuses windows of a split that the reader must not see.

    Raises:
        FailedPrecondition: the index answered with another split (STATE_CONFLICT).
    """
    for windows in lists:
        for window in windows.windows:
            if window.split not in allowed:
                name = window_pb2.Split.Name(window.split)
                raise FailedPrecondition(f"{window.name} is of {name}, which may not be read here")


def of_split(
    lists: Iterable[activation_pb2.WindowList], split: window_pb2.Split.ValueType
) -> list[activation_pb2.WindowList]:
    """The lists whose selection asked for a split."""
    return [windows for windows in lists if windows.selection.split == split]


def top_windows(lists: Iterable[activation_pb2.WindowList]) -> list[window_pb2.Window]:
    """The exemplars: windows of the TOP selections, strongest first."""
    return [
        window
        for windows in lists
        if windows.selection.strategy == window_pb2.WINDOW_STRATEGY_TOP
        for window in windows.windows
    ]


def peak_index(window: window_pb2.Window) -> int:
    """Index in the window's tokens of its largest activation, the first of equals."""
    return max(range(len(window.activations)), key=lambda i: (window.activations[i], -i))


def strongest_peak_tokens(lists: Iterable[activation_pb2.WindowList], count: int) -> list[int]:
    """Ids of the tokens at which the exemplars peak, by their summed maximum."""
    weights: Counter[int] = Counter()
    for window in top_windows(lists):
        peak = peak_index(window)
        weights[window.tokens.token_ids[peak]] += window.activations[peak]  # type: ignore[assignment]
    ranked = sorted(weights.items(), key=lambda item: (-item[1], item[0]))
    return [token for token, _ in ranked[:count]]


def reference_max(lists: Iterable[activation_pb2.WindowList]) -> float:
    """The unit of every threshold, from EXPLAIN exemplars (method, section 1)."""
    best = top_windows(lists)[:REFERENCE_EXEMPLARS]
    return max((window.max_activation for window in best), default=0.0)


def evidence(
    facts: feature_pb2.FeatureFacts,
    windows: Iterable[activation_pb2.WindowList],
    neighbors: Iterable[activation_pb2.TokenNeighbors],
) -> agent_pb2.Evidence:
    """What an explainer may read; promoted output tokens are withheld, since most
    features' two ends differ (method, section 4.1)."""
    kept = list(windows)
    check_split(kept, frozenset({window_pb2.SPLIT_EXPLAIN}))
    message = agent_pb2.Evidence(facts=facts, windows=kept, token_neighbors=neighbors)
    del message.facts.promoted_tokens[:]
    del message.facts.suppressed_tokens[:]
    return message


def summary(gathered: agent_pb2.Evidence) -> str:
    """What was gathered beside the windows, in a line."""
    said = [f"Neighbours of {len(gathered.token_neighbors)} peak tokens"]
    if gathered.vocabulary_probes:
        said.append(f"the vocabulary behind {len(gathered.vocabulary_probes)} carriers")
        if gathered.vocabulary_absent_reason:
            said.append("no vocabulary probe behind its own words")
    else:
        said.append("no vocabulary probe")
    if gathered.HasField("ceiling"):
        ceiling = gathered.ceiling
        said.append(f"ceiling {ceiling.active_share:.2f} of {ceiling.exemplar_count} exemplars")
    return "; ".join(said) + "."


def cut_around_peak(window: window_pb2.Window, tokens_each_side: int) -> text_pb2.TokenSpan:
    """The tokens around a window's peak, at most so many on each side."""
    peak = peak_index(window)
    begin = max(0, peak - tokens_each_side)
    end = peak + tokens_each_side + 1
    return text_pb2.TokenSpan(
        token_ids=window.tokens.token_ids[begin:end],
        token_bytes=window.tokens.token_bytes[begin:end],
    )
