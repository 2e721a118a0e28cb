"""`saexplain up` and `saexplain down`."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from services.cli.exit_codes import ExitCode
from services.cli.options import Json, State
from services.cli.output import Output
from services.cli.running import run
from services.cli.stack import Stack, StackConfig, StackRecord, read_record, take_down
from services.cli.stack.config import default_state_dir
from services.cli.stack.processes import tail
from services.common.errors import FailedPrecondition, Unavailable

_POLL_SECONDS = 0.2


def triton_wanted() -> bool:
    """True if the environment says `TRITON=1`."""
    return os.environ.get("TRITON", "").lower() in {"1", "true", "yes"}


def up(
    state: State = None,
    triton: Annotated[
        bool, typer.Option("--triton", help="Serve the model with tritonserver; also TRITON=1.")
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return when ready; `saexplain down` stops it.")
    ] = False,
    ready_timeout: Annotated[
        float, typer.Option(min=1, help="Seconds that the start may take.")
    ] = 900.0,
    json: Json = False,
) -> None:
    """Start all services on this machine; Ctrl-C stops them."""
    output = Output(json_wanted=json)
    config = StackConfig(
        state_dir=state or default_state_dir(),
        triton=triton or triton_wanted(),
        ready_timeout_seconds=ready_timeout,
    )
    run(output, _detached(config, output) if detach else _foreground(config, output))


def down(state: State = None, json: Json = False) -> None:
    """Stop the services that run on a state folder."""
    output = Output(json_wanted=json)
    run(output, _down(StackConfig(state_dir=state or default_state_dir()), output))


async def _foreground(config: StackConfig, output: Output) -> ExitCode:
    stack = Stack(config, progress=lambda name, what: output.note(f"{name} {what}"))
    async with stack:
        _tell(config, output)
        raise await stack.failure()


async def _detached(config: StackConfig, output: Output) -> ExitCode:
    running = read_record(config.record_path)
    if running is not None and running.supervisor.process.alive:
        raise FailedPrecondition(
            f"a stack runs already on {config.state_dir} (pid {running.supervisor.pid}); "
            "`saexplain down` stops it, --state chooses another folder"
        )
    supervisor = _start_supervisor(config)
    # The supervisor itself gives up after the same time and says why.
    while supervisor.poll() is None:
        record = read_record(config.record_path)
        if record is not None and record.status == "ready" and _is(record, supervisor):
            _tell(config, output)
            return ExitCode.OK
        await asyncio.sleep(_POLL_SECONDS)
    log = config.log_dir / "supervisor.log"
    raise Unavailable(f"the stack did not start; the end of {log}:\n{tail(log)}")


async def _down(config: StackConfig, output: Output) -> ExitCode:
    record = await take_down(config)
    output.result(
        {"stopped": [process.name for process in record.processes] if record else []},
        f"stopped {len(record.processes)} processes" if record else "nothing runs there",
    )
    return ExitCode.OK


def _start_supervisor(config: StackConfig) -> subprocess.Popen[bytes]:
    config.log_dir.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "services.cli", "up"]
    command += ["--state", str(config.state_dir)]
    command += ["--ready-timeout", str(config.ready_timeout_seconds)]
    command += ["--triton"] if config.triton else []
    with (config.log_dir / "supervisor.log").open("wb") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _is(record: StackRecord, supervisor: subprocess.Popen[bytes]) -> bool:
    return record.supervisor.pid == supervisor.pid


def _tell(config: StackConfig, output: Output) -> None:
    record = read_record(config.record_path)
    assert record is not None, "a ready stack has a record"
    lines = [f"{name:13} {address}" for name, address in record.addresses.items()]
    output.result(
        {
            "state": str(Path(config.state_dir).resolve()),
            "logs": str(config.log_dir.resolve()),
            "addresses": record.addresses,
        },
        "\n".join(lines),
        f"logs in {config.log_dir}",
    )
