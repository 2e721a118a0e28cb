"""Callers of a journal without HTTP: a provider that counts, a clock that obeys."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Double, literal

from saexplain.common.v1 import usage_pb2 as pb
from services.common.llm.calls import CallFacts, CallKey, Completion, TokenCounts

OK = Completion(
    pb.LLM_CALL_OUTCOME_OK, '{"name": "red"}', tokens=TokenCounts(prompt=50, completion=10)
)
DOWN = Completion(
    pb.LLM_CALL_OUTCOME_PROVIDER_ERROR, detail="HTTP 500", failure="unavailable", http_status=500
)


def key(number: int, owner: str = "projects/p/explanations/e") -> CallKey:
    """The key of a numbered call."""
    return CallKey(owner, "step", 1, number, hashlib.sha256(str(number).encode()).hexdigest())


def facts(token_count: int = 100, cost: Decimal | None = None) -> CallFacts:
    """What is set aside for a call."""
    return CallFacts("m", "colour", "f" * 64, token_count, cost, "USD" if cost else "", "host:1")


def throttled(delay_seconds: float | None = None) -> Completion:
    """A 429."""
    return Completion(
        pb.LLM_CALL_OUTCOME_PROVIDER_ERROR,
        detail="HTTP 429",
        failure="rate_limited",
        http_status=429,
        retry_after_seconds=delay_seconds,
    )


class Provider:
    """Counts the requests it sees, by key, and answers as it is told.

    Args:
        answer: makes the reply to the request with this number, from 0.
    """

    def __init__(self, answer: Callable[[int], Awaitable[Completion]]) -> None:
        self.seen: Counter[CallKey] = Counter()
        self._answer = answer

    def sender(self, key: CallKey) -> Callable[[], Awaitable[Completion]]:
        """What the journal calls to send."""

        async def send() -> Completion:
            number = self.seen.total()
            self.seen[key] += 1
            return await self._answer(number)

        return send


async def ok(_: int) -> Completion:
    """Answers at once."""
    return OK


class VirtualTime:
    """A clock of limits that runs only while callers sleep, each for as long as it said."""

    def __init__(self, seconds: float = 1_000_000.0) -> None:
        self.seconds = seconds

    def __call__(self) -> ColumnElement[Any]:
        """The clock."""
        return literal(self.seconds, Double)

    async def sleep(self, seconds: float) -> None:
        """Lets the time pass."""
        self.seconds += seconds
        await asyncio.sleep(0)
