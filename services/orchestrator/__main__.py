"""Starts a role of the orchestrator: `api`, `worker`, `migrate` or `namespace`.

Ends through `os._exit`: a temporalio process sometimes aborts while the interpreter shuts
down although its work is done (sdk-python #300), and its exit code has to mean something.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

import structlog
import typer
from pydantic import ValidationError

from services.common.errors import SaexplainError
from services.common.logging import configure_logging
from services.common.settings import ServerSettings
from services.orchestrator.settings import (
    ApiSettings,
    NamespaceSettings,
    StoreSettings,
    WorkerSettings,
)

EXIT_FAILED = 1
EXIT_SETTINGS = 2

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
_log = structlog.get_logger(__name__)


@app.command()
def api() -> None:
    """Serves the public API."""

    async def run(settings: ApiSettings) -> None:
        from services.orchestrator.serving import serve_api

        await serve_api(settings)

    _run("orchestrator-api", ApiSettings, run)


@app.command()
def worker() -> None:
    """Runs workflows and activities."""

    async def run(settings: WorkerSettings) -> None:
        from services.orchestrator.serving import serve_worker

        await serve_worker(settings)

    _run("orchestrator-worker", WorkerSettings, run)


@app.command()
def migrate() -> None:
    """Brings the database's schema up to date."""

    async def run(settings: StoreSettings) -> None:
        from services.orchestrator.store.migrate import migrate as apply

        await asyncio.to_thread(apply, settings.database_url.get_secret_value())
        _log.info("migrated")

    _run("orchestrator-migrate", StoreSettings, run)


@app.command()
def namespace() -> None:
    """Registers Temporal's namespace, or gives it the retention of the settings."""

    async def run(settings: NamespaceSettings) -> None:
        from services.orchestrator.namespaces import ensure_namespace

        await ensure_namespace(settings)

    _run("orchestrator-namespace", NamespaceSettings, run)


def _run(
    name: str,
    settings_type: Callable[[], Any],
    run: Callable[[Any], Coroutine[Any, Any, None]],
) -> NoReturn:
    try:
        settings: ServerSettings = settings_type()
    except ValidationError as error:
        for problem in error.errors(include_input=False, include_url=False):
            where = ".".join(str(part) for part in problem["loc"])
            sys.stderr.write(f"{where}: {problem['msg']}\n")
        _exit(EXIT_SETTINGS)
    configure_logging(settings.log_format, settings.log_level, name)
    try:
        asyncio.run(run(settings))
    except SaexplainError as error:
        _log.error("ended_with_error", reason=error.reason, message=error.message)
        _exit(EXIT_FAILED)
    except Exception:  # noqa: BLE001 (the process ends here; the log has the trace)
        _log.exception("ended_with_defect")
        _exit(EXIT_FAILED)
    _exit(0)


def _exit(code: int) -> NoReturn:
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    app()
