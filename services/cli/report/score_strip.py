"""Geometry of a score beside its baselines: one small strip per row of the table."""

from __future__ import annotations

from dataclasses import dataclass

from saexplain.common.v1.score_pb2 import Score
from services.cli.report.formats import optional

WIDTH, HEIGHT = 168, 26
_PAD = 6

BASELINES = ("constant", "other_feature", "top_token", "token_table")
"""The four baselines, from the most trivial on: the columns of the table."""


@dataclass(frozen=True)
class Strip:
    """Horizontal positions in user units of the SVG.

    Attributes:
        value: the score.
        low: lower end of its interval; None without one.
        high: upper end.
        baselines: name and position of those that have a value.
        zero: the position of 0.
    """

    value: float
    low: float | None
    high: float | None
    baselines: tuple[tuple[str, float], ...]
    zero: float
    width: int = WIDTH
    height: int = HEIGHT
    begin: int = _PAD
    end: int = WIDTH - _PAD


def lay_out(score: Score) -> Strip | None:
    """The strip of a score; None where it has no value. The axis is [0, 1], or [-1, 1]
    where something on it is negative; what lies outside is drawn at its end."""
    value = optional(score, "value")
    if value is None:
        return None
    named = {b.name: optional(b, "value") for b in score.baselines}
    low = score.interval.low if score.HasField("interval") else None
    high = score.interval.high if score.HasField("interval") else None
    present = [v for v in (value, low, *named.values()) if v is not None]
    begin = -1.0 if min(present) < 0 else 0.0

    def x(number: float) -> float:
        share = (min(max(number, begin), 1.0) - begin) / (1.0 - begin)
        return round(_PAD + (WIDTH - 2 * _PAD) * share, 1)

    return Strip(
        value=x(value),
        low=None if low is None else x(low),
        high=None if high is None else x(high),
        baselines=tuple((name, x(v)) for name, v in named.items() if v is not None),
        zero=x(0.0),
    )


def baseline_cells(score: Score) -> list[tuple[str, float | None, str]]:
    """Name, value and why there is none, for each of the four and any others."""
    by_name = {baseline.name: baseline for baseline in score.baselines}
    names = [*BASELINES, *(name for name in by_name if name not in BASELINES)]
    cells = []
    for name in names:
        baseline = by_name.get(name)
        value = optional(baseline, "value") if baseline is not None else None
        reason = baseline.undefined_reason if baseline is not None else "not computed"
        cells.append((name, value, reason))
    return cells
