"""How many tokens of the population each measured token stands for.

The lists overlap: a window may be an exemplar and in two random samples. Weights make
their union stand for the EXPLAIN split once:

- TOP windows are known one by one: each stands for itself.
- Other windows in which the feature fires come from RANDOM_ACTIVE and QUANTILE. Each list
  estimates them all, so the two estimates are averaged, in proportion to their sizes.
- Silent windows come from NON_ACTIVATING. At tokens that exemplars peak on, NEAR_MISS
  estimates silence too, and far better: it holds only windows with such tokens. There the
  two are averaged in proportion to their sampling rates; at other tokens NEAR_MISS windows
  are not a sample of anything and weigh nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from saexplain.agent.v1.agent_pb2 import Evidence
from saexplain.common.v1.window_pb2 import (
    WINDOW_STRATEGY_NEAR_MISS,
    WINDOW_STRATEGY_NON_ACTIVATING,
    WINDOW_STRATEGY_QUANTILE,
    WINDOW_STRATEGY_RANDOM_ACTIVE,
    WINDOW_STRATEGY_TOP,
    Window,
    WindowStrategy,
)
from services.agent.explainers.lexical.occurrences import Bools, Floats, Stretch

SILENT_SHARE, ACTIVE_SHARE = 0.1, 0.5

_Strategy: TypeAlias = WindowStrategy.ValueType


@dataclass
class _Sampled:
    """A distinct window with its inclusion probability in every list that holds it."""

    window: Window
    probabilities: dict[_Strategy, float] = field(default_factory=dict)


def stretches(evidence: Evidence) -> list[Stretch]:
    """The distinct windows of the evidence with weights, ordered by name. Windows without
    activations or with nothing to say at natural prevalence keep weight 0."""
    sampled = _distinct(evidence)
    rates = _Rates.of(sampled)
    reference = evidence.facts.reference_max
    peaks = _peak_tokens(sampled, reference)
    return [_stretch(item, _weights(item, rates, peaks, reference), reference) for item in sampled]


def _distinct(evidence: Evidence) -> list[_Sampled]:
    found: dict[str, _Sampled] = {}
    for entry in evidence.windows:
        for window in entry.windows:
            item = found.setdefault(window.name, _Sampled(window))
            item.probabilities[entry.selection.strategy] = window.inclusion_probability
    return [found[name] for name in sorted(found)]


def _stretch(item: _Sampled, weights: Floats, reference: float) -> Stretch:
    window = item.window
    return Stretch(
        name=window.name,
        document=window.document,
        tokens=window.tokens,
        left=window.left_context,
        position=window.context_position,
        shares=np.asarray(window.activations, np.float64) / reference,
        weights=weights,
    )


@dataclass(frozen=True)
class _Rates:
    """How the estimates of two lists are averaged.

    Attributes:
        random_active: share of RANDOM_ACTIVE against QUANTILE, in [0, 1].
        near_miss: share of NEAR_MISS against the other lists at peak tokens, in [0, 1].
    """

    random_active: float
    near_miss: float

    @classmethod
    def of(cls, sampled: Sequence[_Sampled]) -> _Rates:
        active = _probabilities(sampled, WINDOW_STRATEGY_RANDOM_ACTIVE)
        quantile = _probabilities(sampled, WINDOW_STRATEGY_QUANTILE)
        silent = _probabilities(sampled, WINDOW_STRATEGY_NON_ACTIVATING)
        missed = _probabilities(sampled, WINDOW_STRATEGY_NEAR_MISS)
        return cls(
            random_active=_share(len(active), len(quantile)),
            near_miss=_share(_mean(missed), _mean(silent)),
        )


def _probabilities(sampled: Iterable[_Sampled], strategy: _Strategy) -> list[float]:
    return [s.probabilities[strategy] for s in sampled if strategy in s.probabilities]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _share(first: float, second: float) -> float:
    return first / (first + second) if first + second > 0 else 0.0


def _peak_tokens(sampled: Iterable[_Sampled], reference: float) -> frozenset[bytes]:
    """Tokens at which strong exemplars peak: what NEAR_MISS windows were searched for."""
    tops = [s.window for s in sampled if WINDOW_STRATEGY_TOP in s.probabilities]
    return frozenset(
        window.tokens.token_bytes[int(np.argmax(window.activations))]
        for window in tops
        if max(window.activations) >= ACTIVE_SHARE * reference
    )


def _weights(item: _Sampled, rates: _Rates, peaks: frozenset[bytes], reference: float) -> Floats:
    """The weight of each token of a window."""
    window, probabilities = item.window, item.probabilities
    count = len(window.tokens.token_bytes)
    base = _base_weight(probabilities, rates)
    if max(window.activations) >= SILENT_SHARE * reference:
        return np.full(count, base)
    at_peaks: Bools = np.array([token in peaks for token in window.tokens.token_bytes])
    missed = _inverse(probabilities, WINDOW_STRATEGY_NEAR_MISS)
    averaged = (1 - rates.near_miss) * base + rates.near_miss * missed
    return np.where(at_peaks, averaged, base)


def _base_weight(probabilities: Mapping[_Strategy, float], rates: _Rates) -> float:
    if WINDOW_STRATEGY_TOP in probabilities:
        return 1.0
    return (
        rates.random_active * _inverse(probabilities, WINDOW_STRATEGY_RANDOM_ACTIVE)
        + (1 - rates.random_active) * _inverse(probabilities, WINDOW_STRATEGY_QUANTILE)
        + _inverse(probabilities, WINDOW_STRATEGY_NON_ACTIVATING)
    )


def _inverse(probabilities: Mapping[_Strategy, float], strategy: _Strategy) -> float:
    return 1 / probabilities[strategy] if strategy in probabilities else 0.0
