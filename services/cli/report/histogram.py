"""Geometry of the activation histogram: an SVG drawn by the template."""

from __future__ import annotations

import math
from dataclasses import dataclass

from saexplain.common.v1.feature_pb2 import FeatureFacts

WIDTH, HEIGHT = 640, 226
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 32, 48


@dataclass(frozen=True)
class Bar:
    """A bin: its rectangle, and what hovering says."""

    x: float
    y: float
    width: float
    height: float
    note: str


@dataclass(frozen=True)
class Mark:
    """A line across the plot, or a tick beside it, with its label."""

    at: float
    label: str


@dataclass(frozen=True)
class Histogram:
    """Positions in user units of the SVG; counts are on a logarithmic axis."""

    bars: tuple[Bar, ...]
    thresholds: tuple[Mark, ...]
    x_ticks: tuple[Mark, ...]
    y_ticks: tuple[Mark, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = HEIGHT - _BOTTOM


def lay_out(facts: FeatureFacts, silent_share: float, active_share: float) -> Histogram | None:
    """The histogram of a feature; None where there is nothing to draw."""
    bins = [b for b in facts.histogram if b.count > 0 and b.high > b.low]
    if not bins:
        return None
    widest = max([b.high for b in bins] + [active_share * facts.reference_max])
    decades = max(1.0, math.log10(max(b.count for b in bins)) + 0.15)

    def x(activation: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * activation / widest

    def y(count: float) -> float:
        # A count of one is still seen: the axis begins below it.
        share = (math.log10(count) + 0.15) / (decades + 0.15)
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * share

    bars = tuple(
        Bar(
            x=round(x(b.low), 1),
            y=round(y(b.count), 1),
            width=round(max(x(b.high) - x(b.low) - 1, 0.8), 1),
            height=round(HEIGHT - _BOTTOM - y(b.count), 1),
            note=f"{b.low:.3g} to {b.high:.3g}: {b.count:,} tokens",
        )
        for b in bins
    )
    shares = ((silent_share, "silent"), (active_share, "active"))
    thresholds = tuple(
        Mark(round(x(share * facts.reference_max), 1), f"{share:g} ref · {word}")
        for share, word in shares
        if facts.reference_max > 0
    )
    x_ticks = tuple(Mark(round(x(v), 1), f"{v:g}") for v in _round_steps(widest))
    y_ticks = tuple(
        Mark(round(y(10**power), 1), _power(power)) for power in range(math.floor(decades) + 1)
    )
    return Histogram(bars, thresholds, x_ticks, y_ticks)


def _round_steps(widest: float) -> list[float]:
    """0 and multiples of 1, 2 or 5 times a power of ten, at most seven of them."""
    power = 10 ** math.floor(math.log10(widest))
    step = next(s * power for s in (0.1, 0.2, 0.5, 1, 2) if widest / (s * power) <= 6)
    return [round(i * step, 10) for i in range(int(widest / step) + 1)]


def _power(power: int) -> str:
    if power < 3:
        return str(10**power)
    return "10" + "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(digit)] for digit in str(power))
