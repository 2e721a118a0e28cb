"""Notifications. Guards against a listener that never hears anything while polling hides
it, and against one that does not come back."""

from __future__ import annotations

import asyncio
import contextlib

import psycopg
from sqlalchemy.engine import make_url

from services.orchestrator.store.explanations import CHANNEL
from services.orchestrator.watch import Notifications

NAME = "projects/default/explanations/e1"


async def _notified(url: str, news: asyncio.Event, name: str) -> bool:
    """Sends notifications until the listener has one; it may still be connecting."""
    conninfo = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        for _ in range(100):
            await connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, name))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), 0.1)
                return True
    return False


async def test_a_subscriber_hears_of_its_explanation_and_no_other(empty_database_url: str) -> None:
    """Also after the connection was cut by the server."""
    notifications = Notifications(empty_database_url)
    listening = asyncio.create_task(notifications.run())
    try:
        async with (
            notifications.subscription(NAME) as mine,
            notifications.subscription(NAME + "x") as other,
        ):
            assert await _notified(empty_database_url, mine, NAME)
            assert not other.is_set()
            await _cut_listeners(empty_database_url)
            mine.clear()
            assert await _notified(empty_database_url, mine, NAME)
    finally:
        listening.cancel()


async def _cut_listeners(url: str) -> None:
    conninfo = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE query LIKE 'LISTEN%' AND datname = current_database()"
        )
