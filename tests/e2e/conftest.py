"""One stack for the whole folder, and a provider of language models beside it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from saexplain_client import AsyncSaexplainClient
from tests.e2e.provider import Provider
from tests.e2e.running import RunningStack, running

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def provider() -> Iterator[Provider]:
    """A scripted OpenAI-compatible server as a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.openai_server", "--port", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield Provider(process.stdout.readline().strip())
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Iterator[RunningStack]:
    """All services on the shipped model, SAE and index."""
    state = tmp_path_factory.mktemp("stack")
    with running(state, environment=provider.environment) as stack:
        yield stack


@pytest.fixture
async def client(stack: RunningStack) -> AsyncIterator[AsyncSaexplainClient]:
    """A client of the public API."""
    async with AsyncSaexplainClient(stack.address("orchestrator")) as client:
        yield client
