"""`stack.json`: what runs where, for everybody who was not there when it started."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from services.cli.stack.reaper import ProcessId
from services.common.errors import FailedPrecondition


class ProcessRecord(BaseModel):
    """A process of the stack.

    Attributes:
        name: its row in the service table; `supervisor` and `watchdog` have none.
        pid: its pid and process group.
        start_ticks: see `reaper.ProcessId`.
        address: `host:port`. Empty where it has none.
        log: file with its output. Empty where it has none.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    pid: int
    start_ticks: int
    address: str = ""
    log: str = ""

    @property
    def process(self) -> ProcessId:
        """The process itself."""
        return ProcessId(self.pid, self.start_ticks)


class StackRecord(BaseModel):
    """A stack as it stands.

    Attributes:
        stack_id: random; marks its processes.
        status: `ready` when every health check said SERVING.
        supervisor: the process that started the others.
        processes: the others, in the order of their start.
        addresses: name of a service to `host:port`.
    """

    model_config = ConfigDict(frozen=True)

    stack_id: str
    status: Literal["starting", "ready", "stopping"]
    supervisor: ProcessRecord
    processes: tuple[ProcessRecord, ...] = ()
    addresses: dict[str, str] = {}


def write_record(path: Path, record: StackRecord) -> None:
    """Replaces the file in one step, so that no reader sees half of it."""
    draft = path.with_suffix(".tmp")
    draft.write_text(record.model_dump_json(indent=2) + "\n")
    draft.replace(path)


def read_record(path: Path) -> StackRecord | None:
    """The stack recorded there; None where there is no file.

    Raises:
        FailedPrecondition: the file is not a record of a stack.
    """
    try:
        return StackRecord.model_validate_json(path.read_text())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise FailedPrecondition(
            f"{path} is not a record of a stack; remove it if nothing runs"
        ) from error
