"""A whole stack as a user starts it: `saexplain up --detach`, `saexplain down`."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from services.cli.stack.record import StackRecord, read_record

_READY_SECONDS = 600


@dataclass(frozen=True)
class RunningStack:
    """A stack on a state folder.

    Attributes:
        state: the state folder.
        environment: what its processes were told beside their own settings.
    """

    state: Path
    environment: Mapping[str, str]

    @property
    def record(self) -> StackRecord:
        """What runs where."""
        record = read_record(self.state / "stack.json")
        assert record is not None, "the stack has ended"
        return record

    def address(self, service: str) -> str:
        """`host:port` of a service."""
        return self.record.addresses[service]

    def pid(self, service: str) -> int:
        """Process id of a service."""
        return next(p.pid for p in self.record.processes if p.name == service)

    @property
    def database_url(self) -> str:
        """URL of the stack's PostgreSQL."""
        return (self.state / "postgres.url").read_text().strip()

    def up(self, *flags: str) -> None:
        """Starts the stack and waits until it is ready."""
        run = saexplain("up", "--detach", *flags, state=self.state, environment=self.environment)
        assert run.returncode == 0, run.stderr + self.logs()

    def down(self) -> None:
        """Stops it."""
        saexplain("down", state=self.state)

    def logs(self) -> str:
        """The end of every log, for a failing test."""
        parts = []
        for path in sorted((self.state / "logs").glob("*.log")):
            lines = path.read_text(errors="replace").splitlines()[-8:]
            parts.append("\n".join([f"== {path.name}", *lines]))
        return "\n".join(parts)


def saexplain(
    *arguments: str, state: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs the command line as a user would."""
    return subprocess.run(
        [sys.executable, "-m", "services.cli", *arguments, "--state", str(state)],
        capture_output=True,
        text=True,
        env={**os.environ, **(environment or {})},
        timeout=_READY_SECONDS,
        check=False,
    )


@contextlib.contextmanager
def running(
    state: Path, *flags: str, environment: Mapping[str, str] | None = None
) -> Iterator[RunningStack]:
    """A stack for the length of the body; it is always stopped."""
    stack = RunningStack(state, environment or {})
    try:
        stack.up(*flags)
        yield stack
    finally:
        stack.down()
