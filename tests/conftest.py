"""Fixtures for every test: a real PostgreSQL, one server a session, one database a test."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest

from services.common import embedded_postgres

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[embedded_postgres.EmbeddedPostgres]:
    """One embedded PostgreSQL server for the session."""
    with tempfile.TemporaryDirectory(prefix="saexplain-pg-", ignore_cleanup_errors=True) as folder:
        server = asyncio.run(embedded_postgres.start(Path(folder) / "data"))
        try:
            yield server
        finally:
            asyncio.run(server.stop())


@pytest.fixture
async def empty_database_url(postgres: embedded_postgres.EmbeddedPostgres) -> AsyncIterator[str]:
    """A fresh database without any table."""
    name = f"test_{next(_numbers)}"
    async with await psycopg.AsyncConnection.connect(postgres.url, autocommit=True) as connection:
        await connection.execute(f"CREATE DATABASE {name}")
    yield postgres.url.replace("/postgres?", f"/{name}?", 1)
    async with await psycopg.AsyncConnection.connect(postgres.url, autocommit=True) as connection:
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database_url(empty_database_url: str) -> str:
    """A fresh database with the present schema."""
    from services.orchestrator.store.migrate import migrate

    await asyncio.to_thread(migrate, empty_database_url)
    return empty_database_url
