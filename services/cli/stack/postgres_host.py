"""Runs the embedded PostgreSQL as a process that the stack can start and stop.

`python -m services.cli.stack.postgres_host FOLDER URL_FILE` writes the server's URL to the
file once it accepts connections, and stops the server on SIGTERM or SIGINT. It ends with
code 1 when the server ends by itself.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from services.common import embedded_postgres

_POLL_SECONDS = 0.5


async def host(folder: Path, url_file: Path) -> int:
    """Serves until a signal comes; returns the exit code."""
    asked_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop.set)
    server = await embedded_postgres.start(folder)
    try:
        draft = url_file.with_suffix(".tmp")
        draft.write_text(server.url)
        draft.replace(url_file)
        while not asked_to_stop.is_set():
            if not _running(folder):
                return 1
            try:
                await asyncio.wait_for(asked_to_stop.wait(), _POLL_SECONDS)
            except TimeoutError:
                continue
        return 0
    finally:
        url_file.unlink(missing_ok=True)  # noqa: ASYNC240 -- at the end of the process
        await server.stop()


def _running(folder: Path) -> bool:
    """True if the process that the server's pid file names is there."""
    try:
        pid = int((folder / "postmaster.pid").read_text().split("\n", 1)[0])
        os.kill(pid, 0)
    except (FileNotFoundError, ProcessLookupError):
        return False
    return True


if __name__ == "__main__":
    sys.exit(asyncio.run(host(Path(sys.argv[1]), Path(sys.argv[2]))))
