"""Runs the body of a command: signals become cancellation, errors become exit codes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, NoReturn

import typer

from saexplain_client import SaexplainClientError
from services.cli.exit_codes import ExitCode, exit_code_of
from services.cli.output import Output
from services.common.errors import SaexplainError


def run(output: Output, body: Coroutine[Any, Any, ExitCode]) -> NoReturn:
    """Runs the body and ends the command with its exit code.

    Ctrl-C and SIGTERM cancel the body, which then cleans up after itself; a Ctrl-C ends
    with 130, a SIGTERM, as `saexplain down` sends it, with 0.
    """
    received: list[signal.Signals] = []

    async def cancellable() -> ExitCode:
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()

        def on_signal(number: signal.Signals) -> None:
            received.append(number)
            task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_signal, number)
        return await body

    try:
        code = asyncio.run(cancellable())
    except (SaexplainError, SaexplainClientError) as error:
        output.failure(error)
        code = exit_code_of(error.status)
    except (asyncio.CancelledError, KeyboardInterrupt):
        code = ExitCode.OK if received[:1] == [signal.SIGTERM] else ExitCode.INTERRUPTED
    raise typer.Exit(code)
