"""Transactions of the journal: repeated after a deadlock, typed when the database is away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from services.common.errors import SaexplainError, Unavailable

T = TypeVar("T")

_REPEATABLE = frozenset({"40001", "40P01", "55P03"})
"""SQLSTATEs of a serialization failure, a deadlock, a lock that was not to be had."""
_MOST_ATTEMPTS = 6


async def run_transaction(
    engine: AsyncEngine, work: Callable[[AsyncConnection], Awaitable[T]]
) -> T:
    """Runs `work` in a transaction that commits with it; again after a deadlock.

    Raises:
        Unavailable: BACKEND_UNAVAILABLE: the database cannot be reached or gave up.
    """
    try:
        async for attempt in AsyncRetrying(
            retry=retry_if_exception(_repeatable),
            stop=stop_after_attempt(_MOST_ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.02, max=0.5),
            reraise=True,
        ):
            with attempt:
                async with engine.begin() as connection:
                    return await work(connection)
    except SaexplainError:
        raise
    except (DBAPIError, PoolTimeout, OSError) as error:
        # The driver's own text may hold the address and the user.
        raise Unavailable(
            f"the database of the call journal: {type(error).__name__}", "BACKEND_UNAVAILABLE"
        ) from error
    raise AssertionError("the last attempt returns or raises")


def _repeatable(error: BaseException) -> bool:
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", "") in _REPEATABLE
