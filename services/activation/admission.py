"""How much work the service takes on: a whole call's tokens, before anything of it runs.

Pages of one call run one after the other. Were each page admitted by itself, a long call that had
begun could be refused half-way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from services.common.errors import ResourceExhausted

_LEAST_WAIT_SECONDS = 0.1


class Admission:
    """Counts what is under way.

    Args:
        max_tokens: Over all calls. A call that finds nothing under way is admitted whatever its
            size: a repeat would not find more room.
        max_calls: At once.
        tokens_per_second: Measured speed, for the advice when to come back.
    """

    def __init__(
        self, max_tokens: int, max_calls: int, tokens_per_second: Callable[[], float]
    ) -> None:
        self._max_tokens = max_tokens
        self._max_calls = max_calls
        self._tokens_per_second = tokens_per_second
        self.tokens = 0
        """Of calls under way."""
        self.calls = 0
        """Under way."""

    @contextmanager
    def admit(self, tokens: int) -> Iterator[None]:
        """Holds room for a call for the length of the body.

        Raises:
            ResourceExhausted: QUEUE_FULL, with the time that what is under way takes.
        """
        self._check_room(tokens)
        self.calls += 1
        self.tokens += tokens
        try:
            yield
        finally:
            self.calls -= 1
            self.tokens -= tokens

    def _check_room(self, tokens: int) -> None:
        if self.calls and self.tokens + tokens > self._max_tokens:
            message = (
                f"{self.tokens} tokens are under way, {tokens} more do not fit under "
                f"{self._max_tokens}"
            )
        elif self.calls >= self._max_calls:
            message = f"{self.calls} calls are under way, more are not taken"
        else:
            return
        wait = max(_LEAST_WAIT_SECONDS, self.tokens / self._tokens_per_second())
        raise ResourceExhausted(message, reason="QUEUE_FULL", retry_after_seconds=wait)
