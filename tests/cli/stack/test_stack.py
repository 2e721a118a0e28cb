"""A stack of real processes: started in order, watched, and gone afterwards.

Load-bearing: after a killed supervisor nothing of the stack is alive, a process that
ignores SIGTERM and its child included.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from services.cli.stack import Stack, StackConfig, read_record, take_down
from services.cli.stack.readiness import health_status
from services.cli.stack.reaper import ProcessId, signal_group, start_ticks
from services.cli.stack.record import ProcessRecord, StackRecord, write_record
from services.common.errors import DeadlineExceeded, FailedPrecondition, Unavailable


def config(state: Path, **changes: float) -> StackConfig:
    return StackConfig(state_dir=state, **{"grace_seconds": 1.0, **changes})


def eventually(condition: Callable[[], bool]) -> bool:
    """Waits for what another process does; the limit only ends a failing test."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def recorded(state: Path) -> StackRecord:
    record = read_record(state / "stack.json")
    assert record is not None
    return record


async def test_services_start_after_what_they_need_and_leave_nothing_behind(
    tmp_path: Path, dummies: ModuleType
) -> None:
    """Guards against a service started before the migration that it stands on."""
    seen: list[tuple[str, str]] = []
    stack = Stack(config(tmp_path), dummies.three_services, lambda *news: seen.append(news))
    async with stack:
        record = recorded(tmp_path)
        assert record.status == "ready"
        assert record.addresses == stack.addresses == {"server": record.processes[2].address}
        assert await health_status(stack.addresses["server"]) == "SERVING"
        assert "plain is up" in (tmp_path / "logs" / "plain.log").read_text()
    names = ["plain", "step", "server"]
    assert [news for news in seen if news[1] != "stopped"] == [
        (name, state) for name in names for state in ("starting", "ready")
    ]
    assert [name for name, state in seen if state == "stopped"] == names[::-1]
    assert (tmp_path / "order").read_text() == "plain\n", "plain had no time to stop by itself"
    assert not any(process.process.alive for process in record.processes)
    assert not (tmp_path / "stack.json").exists()


async def test_what_ignores_sigterm_is_killed_with_its_children(
    tmp_path: Path, dummies: ModuleType
) -> None:
    """A server that hangs while stopping would stay for ever."""
    async with Stack(config(tmp_path, grace_seconds=0.3), dummies.with_stubborn):
        record = recorded(tmp_path)
        grandchild = int((tmp_path / "stubborn.ready").read_text())
        assert start_ticks(grandchild) is not None
    assert start_ticks(grandchild) is None
    assert not any(process.process.alive for process in record.processes)


async def test_a_crash_is_named_with_the_tail_of_its_log(
    tmp_path: Path, dummies: ModuleType
) -> None:
    """'Something failed' sends people through nine log files."""
    async with Stack(config(tmp_path), dummies.with_crash) as stack:
        failure = await stack.failure()
    assert failure.metadata["service"] == "crashing"
    assert "exited with 7" in failure.message
    assert "the disk is on fire" in failure.message


async def test_a_failed_step_ends_the_start_and_what_had_started(
    tmp_path: Path, dummies: ModuleType
) -> None:
    """The others must not be left running, nor be waited for."""
    with pytest.raises(Unavailable, match=r"step exited with 3(.|\n)*no such table"):
        async with Stack(config(tmp_path), dummies.with_failed_step):
            raise AssertionError("entered a stack that cannot be ready")
    assert (tmp_path / "order").read_text() == "plain\n"
    assert not (tmp_path / "stack.json").exists()


async def test_a_start_that_takes_too_long_names_who_was_late(
    tmp_path: Path, dummies: ModuleType
) -> None:
    """Guards against waiting for ever for a service that never says SERVING."""
    sleeper = dummies.python("import time; time.sleep(600)")

    def table(stack_config: StackConfig, ports: object) -> list[object]:
        ready = dummies.FileAppears(tmp_path / "never")
        return [dummies.ServiceSpec("sleeper", sleeper, ready)]

    with pytest.raises(DeadlineExceeded, match="sleeper"):
        async with Stack(config(tmp_path, ready_timeout_seconds=0.5), table):
            raise AssertionError("entered a stack that cannot be ready")


async def test_a_second_stack_on_the_folder_is_refused(tmp_path: Path, dummies: ModuleType) -> None:
    """Two databases over one folder would corrupt it."""
    async with Stack(config(tmp_path), dummies.three_services):
        with pytest.raises(FailedPrecondition, match="runs already"):
            async with Stack(config(tmp_path), dummies.three_services):
                raise AssertionError("two stacks on one folder")
        assert recorded(tmp_path).status == "ready", "the refusal touched the running stack"


def start_supervisor(state: Path, dummies: ModuleType) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, str(dummies.__file__), str(state)])
    path = state / "stack.json"
    assert eventually(lambda: path.exists() and recorded(state).status == "ready")
    return process


def test_a_killed_supervisor_leaves_nothing_behind(tmp_path: Path, dummies: ModuleType) -> None:
    """kill -9, the out-of-memory killer: no code of the supervisor runs any more."""
    supervisor = start_supervisor(tmp_path, dummies)
    processes = [process.process for process in recorded(tmp_path).processes]
    grandchild = int((tmp_path / "stubborn.ready").read_text())
    assert sum(process.alive for process in processes) == 3
    supervisor.kill()
    supervisor.wait()
    assert eventually(lambda: not any(process.alive for process in processes))
    assert eventually(lambda: start_ticks(grandchild) is None)


async def test_the_next_stack_clears_away_what_a_killed_one_left(
    tmp_path: Path, dummies: ModuleType
) -> None:
    """A stale `stack.json` must not block the folder for ever."""
    supervisor = await asyncio.to_thread(start_supervisor, tmp_path, dummies)
    before = recorded(tmp_path)
    supervisor.kill()
    supervisor.wait()
    async with Stack(config(tmp_path), dummies.three_services):
        assert recorded(tmp_path).stack_id != before.stack_id
        assert not any(process.process.alive for process in before.processes)


async def test_down_stops_the_stack_of_another_process(tmp_path: Path, dummies: ModuleType) -> None:
    """`saexplain down` in another terminal."""
    supervisor = await asyncio.to_thread(start_supervisor, tmp_path, dummies)
    record = await take_down(config(tmp_path))
    assert record is not None
    assert supervisor.wait(timeout=60) == 0
    assert not any(process.process.alive for process in record.processes)
    assert await take_down(config(tmp_path)) is None


async def test_down_spares_a_stranger_that_was_given_the_same_pid(tmp_path: Path) -> None:
    """Pids are given out again: a record of last week must not kill today's editor."""
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    stranger = subprocess.Popen(command, start_new_session=True)  # noqa: ASYNC220
    try:
        ticks = start_ticks(stranger.pid)
        assert ticks is not None
        stale = ProcessRecord(name="old", pid=stranger.pid, start_ticks=ticks - 1)
        write_record(
            tmp_path / "stack.json",
            StackRecord(stack_id="old", status="ready", supervisor=stale, processes=(stale,)),
        )
        await take_down(config(tmp_path, grace_seconds=0.1))
        assert stranger.poll() is None
        assert not (tmp_path / "stack.json").exists()
        signal_group(ProcessId(stranger.pid, ticks), 9)
        assert stranger.wait() == -9, "the control: the right start time does reach it"
    finally:
        stranger.kill()
        stranger.wait()


def test_a_damaged_record_is_refused_with_its_path(tmp_path: Path) -> None:
    """Guessing from half a record could kill the wrong processes."""
    (tmp_path / "stack.json").write_text("{}")
    with pytest.raises(FailedPrecondition, match=r"stack\.json"):
        read_record(tmp_path / "stack.json")


def test_start_ticks_of_nobody_are_none() -> None:
    """The supervisor's own are there; a pid that cannot exist has none."""
    assert start_ticks(os.getpid()) is not None
    assert start_ticks(2**22 + 1) is None
