"""Transactions whose failures are typed: a database that is away is UNAVAILABLE."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.common.errors import Unavailable


@contextlib.asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection in a transaction that commits with the body.

    Raises:
        Unavailable: the database cannot be reached or gave up.
    """
    try:
        async with engine.begin() as connection:
            yield connection
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        # The driver's own text may hold the address and the user.
        raise Unavailable(f"database: {type(error).__name__}") from error
