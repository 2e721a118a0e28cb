"""What a process of the stack is: how to start it and how to tell that it is ready."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from services.cli.stack.config import StackConfig
from services.cli.stack.ports import PortPicker


@dataclass(frozen=True)
class GrpcHealth:
    """Ready when `grpc.health.v1` at `address` answers SERVING for `service`."""

    address: str
    service: str = ""


@dataclass(frozen=True)
class FileAppears:
    """Ready when the file is there; whatever stands there before the start is removed."""

    path: Path


@dataclass(frozen=True)
class ExitsWithZero:
    """Ready when it has ended with code 0: a step of the start, not a service."""


Readiness = GrpcHealth | FileAppears | ExitsWithZero


@dataclass(frozen=True)
class ServiceSpec:
    """One row of the service table.

    Attributes:
        name: unique; the log is `{name}.log`.
        command: program and arguments.
        ready: how to tell that it is ready.
        environment: added to that of the caller, asked for when the process starts, so
            that it may depend on what the processes in `after` wrote.
        after: names of the processes that have to be ready before.
        address: `host:port` for callers. Empty where there is none.
    """

    name: str
    command: tuple[str, ...]
    ready: Readiness
    environment: Callable[[], Mapping[str, str]] = field(default=dict)
    after: tuple[str, ...] = ()
    address: str = ""


ServiceTable = Callable[[StackConfig, PortPicker], Sequence[ServiceSpec]]
"""Makes the table for a configuration; addresses come from the picker."""
