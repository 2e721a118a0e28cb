"""What the exit codes of `saexplain` mean."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes, the same for all commands."""

    OK = 0
    RUN_FAILED = 1
    """A run or a step ended without a result."""
    BAD_USAGE = 2
    """The command line or a request is wrong."""
    UNAVAILABLE = 3
    """A service cannot be reached, is not ready, or has no room."""
    NOT_FOUND = 4
    """What was named does not exist."""
    INTERRUPTED = 130
    """Ctrl-C."""


_BY_STATUS = {
    "INVALID_ARGUMENT": ExitCode.BAD_USAGE,
    "ALREADY_EXISTS": ExitCode.BAD_USAGE,
    "NOT_FOUND": ExitCode.NOT_FOUND,
    "UNAVAILABLE": ExitCode.UNAVAILABLE,
    "RESOURCE_EXHAUSTED": ExitCode.UNAVAILABLE,
    "DEADLINE_EXCEEDED": ExitCode.UNAVAILABLE,
}


def exit_code_of(status: str) -> ExitCode:
    """The exit code for the name of a gRPC status."""
    return _BY_STATUS.get(status, ExitCode.RUN_FAILED)
