"""How fast something works, for the advice when to come back."""

from __future__ import annotations

_HALF_LIFE_SECONDS = 30.0
_FIRST_GUESS = 2_000.0
"""Tokens per second of two CPU cores and a model of 135 M; holds until something was measured."""


class RateMeter:
    """Tokens per second of busy time; work of the last half minute weighs most.

    Time counts while anything is under way, once, however much runs beside each other. Times are
    seconds of one monotonic clock.
    """

    def __init__(self) -> None:
        self._tokens = 0.0
        self._seconds = 0.0
        self._running = 0
        self._since = 0.0

    @property
    def tokens_per_second(self) -> float:
        """Above 0."""
        if self._tokens <= 0 or self._seconds <= 0:
            return _FIRST_GUESS
        return self._tokens / self._seconds

    def start(self, now: float) -> None:
        """Something begins."""
        if self._running == 0:
            self._since = now
        self._running += 1

    def finish(self, now: float, tokens: int) -> None:
        """Something that began has ended; 0 tokens where it came to nothing."""
        self._running -= 1
        if tokens == 0:
            return
        seconds = max(0.0, now - self._since)
        fading = 0.5 ** (seconds / _HALF_LIFE_SECONDS)
        self._tokens = self._tokens * fading + tokens
        self._seconds = self._seconds * fading + seconds
        self._since = now

    def seconds_for(self, tokens: int) -> float:
        """How long so many tokens take, at least a tenth of a second."""
        return max(0.1, tokens / self.tokens_per_second)
