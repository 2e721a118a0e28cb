"""Keeps a Triton server running whose Python models may die.

Triton notices that a model's process is gone, and fails every later request for it, but since
24.06 starts no new one and goes on calling itself ready. So the server's children are watched,
and a server that lost one is replaced. A server that ends by itself is not: whoever started the
supervisor learns its exit code.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import enum
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
import structlog

_log = structlog.get_logger(__name__)

_STUB_NAME = "triton_python_b"  # the kernel cuts longer names, psutil mostly completes them
_WATCH_SECONDS = 0.5
_END_SECONDS = 12.0
"""For requests that run, after SIGTERM: a little more than the server itself allows."""
_REPLACE_SECONDS = 2.0
"""The same where a model died: the server would wait for what never answers."""
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
_SHARED_MEMORY = Path("/dev/shm")


class _Outcome(enum.Enum):
    ENDED = enum.auto()
    STOPPED = enum.auto()
    STUB_DIED = enum.auto()


async def supervise(
    command: Sequence[str],
    environment: Mapping[str, str],
    stop: asyncio.Event,
    *,
    shared_memory_prefix: str,
) -> int:
    """Run the server until ``stop`` is set, replacing it whenever one of its models died.

    Returns:
        0 after ``stop``, else the exit code with which the server ended by itself.
    """
    while True:
        process = await asyncio.create_subprocess_exec(
            *command, env=dict(environment), preexec_fn=end_with_parent
        )
        outcome = _Outcome.STOPPED
        try:
            outcome = await _watch(process, stop)
        finally:
            died = outcome is _Outcome.STUB_DIED
            await _end(process, _REPLACE_SECONDS if died else _END_SECONDS)
            _remove_leftovers(shared_memory_prefix)
        if outcome is _Outcome.STOPPED:
            return 0
        if outcome is _Outcome.ENDED:
            return int(process.returncode or 0)
        _log.warning("triton_model_died", action="server is started again")


def end_with_parent() -> None:
    """For a process between fork and exec: SIGTERM as soon as its parent is gone, killed or not."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


async def _watch(process: asyncio.subprocess.Process, stop: asyncio.Event) -> _Outcome:
    seen: set[int] = set()
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_WATCH_SECONDS):
                await stop.wait()
        if stop.is_set():
            return _Outcome.STOPPED
        stubs = {stub.pid for stub in _living_stubs(process.pid)}
        if not _is_alive(process.pid):  # asked after the stubs, which die with their server
            await process.wait()
            return _Outcome.ENDED
        if seen - stubs:
            return _Outcome.STUB_DIED
        seen |= stubs


def _living_stubs(server: int) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(server).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if child.name().startswith(_STUB_NAME) and _is_alive(child.pid):
                    found.append(child)
    return found


def _is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def _end(process: asyncio.subprocess.Process, seconds: float) -> None:
    """Ask the server to end, and make it and its models end."""
    stubs = _living_stubs(process.pid)
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(seconds):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
    for stub in stubs:
        with contextlib.suppress(psutil.NoSuchProcess):
            stub.kill()


def _remove_leftovers(prefix: str) -> None:
    """Shared memory of models that were killed; the prefix belongs to this supervisor."""
    for path in _SHARED_MEMORY.glob(f"{prefix}*"):
        path.unlink(missing_ok=True)
