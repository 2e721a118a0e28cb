"""Wires the roles together and runs them until they are told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import grpc
import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from saexplain.explanation.v1 import explanation_pb2, explanation_pb2_grpc
from services.common.artifacts import ArtifactStore
from services.common.database import create_engine
from services.common.errors import Unavailable
from services.common.grpc_server import HealthReporter, run_server, start_server
from services.orchestrator.api import ApiParts, ExplanationApi
from services.orchestrator.clients import open_services
from services.orchestrator.plan import Planner
from services.orchestrator.settings import ApiSettings, OrchestratorSettings, WorkerSettings
from services.orchestrator.starting import Reconciler, Starter
from services.orchestrator.store.explanations import ExplanationStore
from services.orchestrator.store.indexes import IndexStore
from services.orchestrator.store.journal import JournalStore
from services.orchestrator.temporal_client import connect
from services.orchestrator.watch import Notifications
from services.orchestrator.worker import build_activities, build_workers, run_workers

SERVICE = explanation_pb2.DESCRIPTOR.services_by_name["ExplanationService"].full_name
_RETRY_SECONDS = 0.5
_log = structlog.get_logger(__name__)


def now() -> datetime:
    """The clock of the processes: UTC."""
    return datetime.now(UTC)


@contextlib.asynccontextmanager
async def api_parts(settings: ApiSettings) -> AsyncIterator[tuple[ApiParts, Reconciler]]:
    """The API's collaborators; listens for notifications while they are open."""
    client = await connect(
        settings.temporal_address, settings.temporal_namespace, settings.connect_seconds
    )
    url = settings.database_url.get_secret_value()
    async with open_database(settings) as engine, open_services(settings) as services:
        store = ExplanationStore(engine)
        starter = Starter(client)
        notifications = Notifications(url)
        parts = ApiParts(
            services=services,
            planner=Planner(services, settings.llm_model),
            explanations=store,
            indexes=IndexStore(engine),
            journal=JournalStore(engine),
            artifacts=ArtifactStore(settings.artifact_url),
            starter=starter,
            notifications=notifications,
            now=now,
            watch_poll_seconds=settings.watch_poll_seconds,
        )
        listening = asyncio.create_task(notifications.run())
        try:
            yield parts, Reconciler(store, parts.indexes, starter, settings.reconcile_seconds, now)
        finally:
            await _cancelled(listening)


async def serve_api(settings: ApiSettings) -> None:
    """Serves the public API until SIGTERM or SIGINT."""
    async with api_parts(settings) as (parts, reconciler):
        reconciling = asyncio.create_task(reconciler.run())

        async def register(server: grpc.aio.Server, health: HealthReporter) -> None:
            explanation_pb2_grpc.add_ExplanationServiceServicer_to_server(
                ExplanationApi(parts), server
            )
            await health.set_serving()

        try:
            await run_server(settings, register, [SERVICE])
        finally:
            await _cancelled(reconciling)


async def serve_worker(settings: WorkerSettings) -> None:
    """Runs the workers until SIGTERM or SIGINT; health says SERVING while they do."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    client = await connect(
        settings.temporal_address, settings.temporal_namespace, settings.connect_seconds
    )
    async with open_database(settings) as engine, open_services(settings) as services:
        activities = build_activities(services, engine, ArtifactStore(settings.artifact_url), now)
        workers = build_workers(client, activities, settings)
        server, _, health = await start_server(settings, _register_nothing, [])
        await health.set_serving()
        try:
            await run_workers(workers, stop)
        finally:
            await health.set_serving(False)
            await server.stop(None)
    _log.info("stopped")


async def _register_nothing(server: grpc.aio.Server, health: HealthReporter) -> None:
    """A worker has no service of its own but its health."""


@contextlib.asynccontextmanager
async def open_database(settings: OrchestratorSettings) -> AsyncIterator[AsyncEngine]:
    """An engine whose database has answered.

    Raises:
        Unavailable: it did not in time.
    """
    engine = create_engine(
        settings.database_url.get_secret_value(), pool_size=settings.database_pool_size
    )
    try:
        await _wait_for_database(engine, settings.connect_seconds)
        yield engine
    finally:
        await engine.dispose()


async def _wait_for_database(engine: AsyncEngine, seconds: float) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        try:
            async with engine.connect() as connection:
                await connection.execute(text("SELECT 1 FROM explanations LIMIT 1"))
                return
        except SQLAlchemyError as error:
            if asyncio.get_running_loop().time() >= deadline:
                raise Unavailable(
                    f"database: {type(error).__name__}; is it up and migrated?"
                ) from error
            _log.info("waiting_for_database")
            await asyncio.sleep(_RETRY_SECONDS)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
