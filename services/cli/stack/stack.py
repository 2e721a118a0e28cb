"""Starts the processes of a service table in the order of their needs, watches them, and
stops them in the reverse order.

Nothing is left behind, whatever ends this process: a body that raises, Ctrl-C and
SIGTERM stop the stack in order; a killed supervisor is noticed by the watchdog, which
does the same with less ceremony.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import secrets
from collections.abc import Callable
from types import TracebackType
from typing import IO, Literal, Self

from services.cli.stack import processes, reaper
from services.cli.stack.config import StackConfig
from services.cli.stack.ports import PortPicker
from services.cli.stack.processes import Child
from services.cli.stack.readiness import until_ready
from services.cli.stack.record import ProcessRecord, StackRecord, read_record, write_record
from services.cli.stack.spec import ExitsWithZero, FileAppears, ServiceSpec, ServiceTable
from services.cli.stack.table import saexplain_services
from services.cli.stack.teardown import end_leftovers
from services.common.errors import DeadlineExceeded, FailedPrecondition, Unavailable

Progress = Callable[[str, Literal["starting", "ready", "stopped"]], None]


class Stack:
    """The processes of one state folder. Enter it once.

    Args:
        config: where and how.
        table: which processes; the services of saexplain unless a test says otherwise.
        progress: told of every process that starts, is ready, or has stopped.
    """

    def __init__(
        self,
        config: StackConfig,
        table: ServiceTable = saexplain_services,
        progress: Progress | None = None,
    ) -> None:
        self.config = config
        self._table = table
        self._progress = progress or (lambda name, state: None)
        self._stack_id = secrets.token_hex(16)
        self._status: Literal["starting", "ready", "stopping"] = "starting"
        self._specs: dict[str, ServiceSpec] = {}
        self._children: dict[str, Child] = {}
        self._watchdog: asyncio.subprocess.Process | None = None
        self._lock: IO[str] | None = None

    @property
    def addresses(self) -> dict[str, str]:
        """Name of a service to its `host:port`."""
        return {spec.name: spec.address for spec in self._specs.values() if spec.address}

    async def __aenter__(self) -> Self:
        """Starts everything and waits until it is ready.

        Raises:
            FailedPrecondition: another stack runs on the folder (STATE_CONFLICT).
            Unavailable: a process ended before it was ready; the message names it and
                ends with the tail of its log.
            DeadlineExceeded: not ready in time; the message names who was not.
        """
        self._acquire()
        try:
            await self._start()
        except BaseException:
            # Also on Ctrl-C: whatever was started by then has to go.
            await self._stop()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stop()

    async def failure(self) -> Unavailable:
        """Waits until a service ends that should not, and says which and why."""
        assert self._watchdog is not None, "the stack has to be entered first"
        waiting: dict[asyncio.Future[int], Child | None] = {
            asyncio.ensure_future(child.process.wait()): child
            for child in self._children.values()
            if not isinstance(child.spec.ready, ExitsWithZero)
        }
        waiting[asyncio.ensure_future(self._watchdog.wait())] = None
        try:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        child = waiting[done.pop()]
        return Unavailable("the watchdog of the stack ended") if child is None else _crash(child)

    def _acquire(self) -> None:
        self.config.log_dir.mkdir(parents=True, exist_ok=True)
        # Held until _stop; the lock itself goes with the process at the latest.
        lock = self.config.lock_path.open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            record = read_record(self.config.record_path)
            owner = f" (pid {record.supervisor.pid})" if record is not None else ""
            raise FailedPrecondition(
                f"a stack runs already on {self.config.state_dir}{owner}; "
                "`saexplain down` stops it, --state chooses another folder"
            ) from None
        self._lock = lock

    async def _start(self) -> None:
        await end_leftovers(self.config)
        self._specs = {s.name: s for s in self._table(self.config, PortPicker())}
        self._watchdog = await processes.start_watchdog(
            self._stack_id, self.config.postgres_dir, self.config.grace_seconds
        )
        self._write_record()
        ready = {name: asyncio.Event() for name in self._specs}
        try:
            async with (
                asyncio.timeout(self.config.ready_timeout_seconds),
                asyncio.TaskGroup() as group,
            ):
                for spec in self._specs.values():
                    group.create_task(self._bring_up(spec, ready))
        except TimeoutError:
            late = ", ".join(sorted(name for name, event in ready.items() if not event.is_set()))
            raise DeadlineExceeded(
                f"not ready within {self.config.ready_timeout_seconds:.0f} s: {late}; "
                f"see {self.config.log_dir}"
            ) from None
        except ExceptionGroup as failures:
            # One is enough: what stands on a failed process never starts.
            raise failures.exceptions[0] from None
        self._status = "ready"
        self._write_record()

    async def _bring_up(self, spec: ServiceSpec, ready: dict[str, asyncio.Event]) -> None:
        for name in spec.after:
            await ready[name].wait()
        if isinstance(spec.ready, FileAppears):
            spec.ready.path.unlink(missing_ok=True)
        self._progress(spec.name, "starting")
        child = await self._spawn(spec)
        if not await until_ready(child.process, spec.ready):
            raise _crash(child)
        self._progress(spec.name, "ready")
        ready[spec.name].set()

    async def _spawn(self, spec: ServiceSpec) -> Child:
        environment = {
            **spec.environment(),
            **self.config.environment,
            reaper.MARKER: self._stack_id,
        }
        try:
            child = await processes.start(
                spec, self.config.log_dir / f"{spec.name}.log", environment
            )
        except OSError as error:
            raise Unavailable(f"{spec.name} cannot be started: {error}") from error
        self._children[spec.name] = child
        self._tell_watchdog(f"+{child.identity.pid} {child.identity.start_ticks}")
        self._write_record()
        return child

    async def _stop(self) -> None:
        stopping = asyncio.ensure_future(self._stop_everything())
        while not stopping.done():
            # A second Ctrl-C must not leave half of the stack behind.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(stopping)
        stopping.result()

    async def _stop_everything(self) -> None:
        self._status = "stopping"
        stopped = {name: asyncio.Event() for name in self._children}
        if self._children:
            self._write_record()
        await asyncio.gather(*(self._take_down(c, stopped) for c in self._children.values()))
        await asyncio.to_thread(
            reaper.end_strays,
            self._stack_id,
            self.config.postgres_dir,
            self.config.grace_seconds,
        )
        if self._watchdog is not None:
            self._tell_watchdog("bye")
            await self._watchdog.wait()
            self.config.record_path.unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    async def _take_down(self, child: Child, stopped: dict[str, asyncio.Event]) -> None:
        """Stops a process after those that stand on it."""
        for name, event in stopped.items():
            if child.spec.name in self._specs[name].after:
                await event.wait()
        await processes.stop(child, self.config.grace_seconds)
        self._tell_watchdog(f"-{child.identity.pid}")
        stopped[child.spec.name].set()
        self._progress(child.spec.name, "stopped")

    def _tell_watchdog(self, line: str) -> None:
        if self._watchdog is None or self._watchdog.stdin is None:
            return
        # A watchdog that was killed cannot listen; the stop goes on without it.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._watchdog.stdin.write(f"{line}\n".encode())

    def _write_record(self) -> None:
        supervisor = ProcessRecord(
            name="supervisor",
            pid=os.getpid(),
            start_ticks=reaper.start_ticks(os.getpid()) or -1,
        )
        running = tuple(
            ProcessRecord(
                name=name,
                pid=child.identity.pid,
                start_ticks=child.identity.start_ticks,
                address=child.spec.address,
                log=str(child.log),
            )
            for name, child in self._children.items()
        )
        write_record(
            self.config.record_path,
            StackRecord(
                stack_id=self._stack_id,
                status=self._status,
                supervisor=supervisor,
                processes=running,
                addresses=self.addresses,
            ),
        )


def _crash(child: Child) -> Unavailable:
    code = child.process.returncode
    how = (
        f"was killed by signal {-code}" if code is not None and code < 0 else f"exited with {code}"
    )
    log = processes.tail(child.log)
    return Unavailable(
        f"{child.spec.name} {how}; the end of {child.log}:\n{log or '(empty)'}",
        metadata={"service": child.spec.name, "log": str(child.log)},
    )
