"""What tests of several services need: a real server on a free port."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence

from services.common.grpc_server import Register, start_server
from services.common.settings import ServerSettings


@contextlib.asynccontextmanager
async def serving(
    register: Register, services: Sequence[str] = (), settings: ServerSettings | None = None
) -> AsyncIterator[str]:
    """Serves what `register` adds for the length of the body; yields the address."""
    server, address, _ = await start_server(settings or ServerSettings(), register, services)
    try:
        yield address
    finally:
        await server.stop(None)
