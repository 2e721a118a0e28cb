"""Tells watchers that an explanation has new events, through LISTEN/NOTIFY.

One connection a process listens; watchers wait on it with a timeout and look into the
table anyway. A lost notification or a lost connection costs a delay, never an event.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator

import psycopg
import structlog
from sqlalchemy.engine import make_url

from services.orchestrator.store.explanations import CHANNEL

_log = structlog.get_logger(__name__)
_RECONNECT_SECONDS = 1.0


class Notifications:
    """The listening side of `explanation_events`."""

    def __init__(self, database_url: str) -> None:
        url = make_url(database_url).set(drivername="postgresql")
        self._conninfo = url.render_as_string(hide_password=False)
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)

    async def run(self) -> None:
        """Listens until cancelled; connects again when the connection is lost."""
        while True:
            try:
                await self._listen()
            except psycopg.Error as error:
                _log.warning("notifications_lost", error=type(error).__name__)
            await asyncio.sleep(_RECONNECT_SECONDS)

    @contextlib.asynccontextmanager
    async def subscription(self, name: str) -> AsyncIterator[asyncio.Event]:
        """An event that is set whenever the explanation has something new."""
        event = asyncio.Event()
        self._waiting[name].add(event)
        try:
            yield event
        finally:
            self._waiting[name].discard(event)
            if not self._waiting[name]:
                del self._waiting[name]

    async def _listen(self) -> None:
        connection = await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True)
        async with connection:
            await connection.execute(f"LISTEN {CHANNEL}")
            async for notification in connection.notifies():
                for event in self._waiting.get(notification.payload, ()):
                    event.set()
