"""One process of the stack: started into a group and a log of its own, and ended."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from services.cli.stack import reaper
from services.cli.stack.reaper import ProcessId
from services.cli.stack.spec import ServiceSpec

_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Child:
    """A process that was started."""

    spec: ServiceSpec
    process: Process
    identity: ProcessId
    log: Path


async def start(spec: ServiceSpec, log: Path, environment: Mapping[str, str]) -> Child:
    """Starts a process in a session of its own, so that a Ctrl-C reaches only us.

    Raises:
        OSError: the program does not exist or cannot be run.
    """
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *spec.command,
            stdin=DEVNULL,
            stdout=output,
            stderr=STDOUT,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    return Child(spec, process, _identity(process.pid), log)


async def start_watchdog(stack_id: str, data_dir: Path, grace_seconds: float) -> Process:
    """Starts the process that ends the others should this one be killed."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(reaper.__file__)),
        stack_id,
        str(data_dir),
        str(grace_seconds),
        stdin=PIPE,
        stdout=DEVNULL,
        stderr=DEVNULL,
        start_new_session=True,
    )


async def stop(child: Child, grace_seconds: float) -> None:
    """SIGTERM to the group, SIGKILL to what is left of it after the grace."""
    if reaper.group_alive(child.identity):
        reaper.signal_group(child.identity, signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_seconds):
                # Nothing tells when the last member of a group has gone.
                while reaper.group_alive(child.identity):  # noqa: ASYNC110
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            reaper.signal_group(child.identity, signal.SIGKILL)
    await child.process.wait()


def tail(log: Path, lines: int = 20) -> str:
    """The last lines of a log; empty where there is none."""
    if not log.exists():
        return ""
    with log.open(encoding="utf-8", errors="replace") as text:
        return "".join(deque(text, maxlen=lines)).rstrip()


def _identity(pid: int) -> ProcessId:
    # A process that is gone already has no start time any more; -1 matches none.
    ticks = reaper.start_ticks(pid)
    return ProcessId(pid, -1 if ticks is None else ticks)
