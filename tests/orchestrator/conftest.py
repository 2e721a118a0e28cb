"""A whole orchestrator on real Temporal and PostgreSQL, with fake services behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

from services.cli.stack.table import temporal_binary
from tests.orchestrator.stack import Stack, open_stack


@pytest.fixture(scope="session")
def temporal_address() -> Iterator[str]:
    """The real Temporal dev server, one a session; tests use names of their own."""
    environment = asyncio.run(
        WorkflowEnvironment.start_local(
            dev_server_existing_path=temporal_binary(),
            # A busy machine takes longer than the default of five seconds.
            dev_server_startup_timeout=timedelta(seconds=60),
            dev_server_log_level="error",
        )
    )
    try:
        yield environment.client.service_client.config.target_host
    finally:
        asyncio.run(environment.shutdown())


@pytest.fixture
async def stack(temporal_address: str, database_url: str, tmp_path: Path) -> AsyncIterator[Stack]:
    """API and worker, running."""
    async with open_stack(temporal_address, database_url, tmp_path) as opened, opened.worker():
        yield opened


@pytest.fixture
async def idle_stack(
    temporal_address: str, database_url: str, tmp_path: Path
) -> AsyncIterator[Stack]:
    """The API without a worker: tests start one themselves."""
    async with open_stack(temporal_address, database_url, tmp_path) as opened:
        yield opened
