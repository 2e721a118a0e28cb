"""Arms take turns, so that a machine whose speed drifts drifts for all of them."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

Arm = Callable[[], object]


@dataclass(frozen=True)
class Group:
    """Some of the texts, small enough that the machine's speed holds over two arms."""

    tokens: int
    reference: Arm
    arms: Mapping[str, Arm]


@dataclass
class Record:
    """What was measured; nothing is left out."""

    reference: list[float] = field(default_factory=list)
    """Tokens per second of every run of the reference."""
    speeds: dict[str, list[float]] = field(default_factory=dict)
    """Tokens per second of every run of an arm."""
    ratios: dict[str, list[float]] = field(default_factory=dict)
    """Of an arm's speed to that of the reference right before and right after it."""

    def ratio(self, arm: str) -> float:
        """The median over runs."""
        return statistics.median(self.ratios[arm])

    def error(self, arm: str) -> float:
        """Standard error of the mean ratio; not a number for one run."""
        found = self.ratios[arm]
        return statistics.stdev(found) / math.sqrt(len(found)) if len(found) > 1 else math.nan


def side_by_side(groups: Sequence[Group], repeats: int, until: float = math.inf) -> Record:
    """Every arm of every group ``repeats`` times, each between two runs of the reference.

    No group but the first begins that would likely end after ``until``, of ``time.perf_counter``.
    """
    record, longest = Record(), 0.0
    for group in [group for _ in range(repeats) for group in groups]:
        begin = time.perf_counter()
        if begin + longest > until:
            break
        before = _seconds(group.reference)
        for name, arm in group.arms.items():
            own = _seconds(arm)
            after = _seconds(group.reference)
            record.reference.append(group.tokens / after)
            record.speeds.setdefault(name, []).append(group.tokens / own)
            record.ratios.setdefault(name, []).append((before + after) / 2 / own)
            print(f"{name}: {own:.3f} s between {before:.3f} and {after:.3f}", flush=True)
            before = after
        longest = max(longest, time.perf_counter() - begin)
    return record


def median_seconds(arms: Mapping[str, Arm], repeats: int) -> dict[str, float]:
    """Of every arm, run ``repeats`` times in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(repeats):
        for name, arm in arms.items():
            seconds[name].append(_seconds(arm))
    return {name: statistics.median(times) for name, times in seconds.items()}


def _seconds(arm: Arm) -> float:
    begin = time.perf_counter()
    arm()
    return time.perf_counter() - begin
