"""Ends processes of a stack, and nobody else's.

Also a program of its own, the watchdog: it reads from its standard input which process
groups the supervisor started, and when that ends without a farewell (the supervisor was
killed), it ends them. It runs as a plain script and therefore needs only the standard
library. A pid counts only together with the time its process started, because pids are
given out again. Linux only: it reads /proc.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

MARKER = "SAEXPLAIN_STACK_ID"
"""Environment variable that every process of a stack carries."""

_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class ProcessId:
    """A process, safe against reuse of its pid.

    Attributes:
        pid: also the id of its process group, for processes that the stack starts.
        start_ticks: when it started, in clock ticks since the machine did.
    """

    pid: int
    start_ticks: int

    @property
    def alive(self) -> bool:
        """True if it runs; a zombie does not."""
        return start_ticks(self.pid) == self.start_ticks


def start_ticks(pid: int) -> int | None:
    """When the process with this pid started; None if there is none or it is a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name in parentheses may hold spaces: count from behind it.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def signal_group(process: ProcessId, number: signal.Signals) -> None:
    """Sends a signal to the group that a living process leads; nothing to any other.

    Members that outlive their leader are found by their mark, see `strays`: the number of
    a group without its leader proves nothing.
    """
    if process.alive:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)


def group_alive(process: ProcessId) -> bool:
    """True if the process or another one of its group is there, zombies left out."""
    if process.alive:
        return True
    return any(_group_of(pid) == process.pid for pid in _pids() if start_ticks(pid) is not None)


def strays(stack_id: str, data_dir: Path) -> list[ProcessId]:
    """Processes that carry the mark of the stack, and servers over its data folder.

    The second because PostgreSQL leaves the group it was started in and overwrites its
    environment.
    """
    mark = f"{MARKER}={stack_id}".encode()
    own = {os.getpid(), os.getppid()}
    found = []
    for pid in _pids():
        ticks = start_ticks(pid)
        if pid not in own and ticks is not None:
            marked = mark in _read(f"/proc/{pid}/environ").split(b"\0")
            if marked or _is_postgres_over(pid, data_dir):
                found.append(ProcessId(pid, ticks))
    return found


def end_groups(processes: Iterable[ProcessId], grace_seconds: float) -> None:
    """SIGTERM to all groups, SIGKILL to those that are still there after the grace."""
    left = list(processes)
    for process in left:
        signal_group(process, signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    while time.monotonic() < deadline and (left := [p for p in left if group_alive(p)]):
        time.sleep(_POLL_SECONDS)
    for process in left:
        signal_group(process, signal.SIGKILL)


def end_strays(stack_id: str, data_dir: Path, grace_seconds: float) -> list[int]:
    """Ends what is left of a stack; returns the pids. SIGINT is PostgreSQL's fast stop."""
    found = strays(stack_id, data_dir)
    for process in found:
        _signal(process, signal.SIGINT)
    deadline = time.monotonic() + grace_seconds
    while time.monotonic() < deadline and any(process.alive for process in found):
        time.sleep(_POLL_SECONDS)
    for process in found:
        _signal(process, signal.SIGKILL)
    return [process.pid for process in found]


def _signal(process: ProcessId, number: signal.Signals) -> None:
    if process.alive:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def _is_postgres_over(pid: int, data_dir: Path) -> bool:
    program, *arguments = _read(f"/proc/{pid}/cmdline").split(b"\0")
    return program.rpartition(b"/")[2] == b"postgres" and os.fsencode(data_dir) in arguments


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def watch(stack_id: str, data_dir: Path, grace_seconds: float) -> None:
    """Reads `+pid ticks` and `-pid` lines, and `bye`; without `bye`, ends what is left."""
    processes: dict[int, ProcessId] = {}
    for line in sys.stdin:
        word = line.strip()
        if word == "bye":
            return
        if word.startswith("+"):
            pid, ticks = (int(part) for part in word[1:].split())
            processes[pid] = ProcessId(pid, ticks)
        elif word.startswith("-"):
            processes.pop(int(word[1:]), None)
    end_groups(reversed(processes.values()), grace_seconds)
    end_strays(stack_id, data_dir, grace_seconds)


if __name__ == "__main__":
    # A Ctrl-C belongs to the supervisor; the end of the input is what counts here.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watch(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
