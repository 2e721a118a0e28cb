"""Arms take turns, so that a machine whose speed drifts drifts for all of them."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Arm = Callable[[], object]


@dataclass(frozen=True)
class Times:
    """Seconds per arm, one entry per turn."""

    seconds: Mapping[str, Sequence[float]]

    def median(self, arm: str) -> float:
        """Seconds of the median turn."""
        return statistics.median(self.seconds[arm])

    def ratio(self, arm: str, reference: str) -> float:
        """How many times as fast as ``reference``: the median of the ratios within a turn."""
        pairs = zip(self.seconds[arm], self.seconds[reference], strict=True)
        return statistics.median(theirs / ours for ours, theirs in pairs)

    def spread(self, arm: str, reference: str) -> float:
        """Half the distance between the largest and the smallest ratio within a turn."""
        pairs = zip(self.seconds[arm], self.seconds[reference], strict=True)
        ratios = [theirs / ours for ours, theirs in pairs]
        return (max(ratios) - min(ratios)) / 2

    def fastest(self) -> str:
        """The arm with the smallest median."""
        return min(self.seconds, key=self.median)


def take_turns(
    arms: Mapping[str, Arm], repeats: int, *, show: bool = False, until: float = math.inf
) -> Times:
    """Run every arm ``repeats`` times, in turn; nothing is left out of the record.

    With ``show`` every time is printed as it comes, so that a run that is cut short keeps them. No
    turn but the first begins that would likely end after ``until``, of ``time.perf_counter``.
    """
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(repeats):
        longest = max((sum(times) for times in zip(*seconds.values(), strict=True)), default=0.0)
        if turn and time.perf_counter() + longest > until:
            break
        for name, arm in arms.items():
            begin = time.perf_counter()
            arm()
            seconds[name].append(time.perf_counter() - begin)
            if show:
                print(f"turn {turn + 1}, {name}: {seconds[name][-1]:.3f} s", flush=True)
    return Times(seconds)
