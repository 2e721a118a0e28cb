"""Migrations against the tables that the code declares. Guards against a column that is
in one of them only."""

from __future__ import annotations

import asyncio

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine
from sqlalchemy.engine import Connection, make_url

from services.common.llm import tables as journal
from services.orchestrator.store import tables
from services.orchestrator.store.migrate import migrate


def _differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return list(compare_metadata(context, [tables.metadata, journal.metadata]))


async def test_the_migrated_schema_is_the_declared_one(empty_database_url: str) -> None:
    """From nothing to head, twice and at once: several processes start together."""
    await asyncio.gather(*(asyncio.to_thread(migrate, empty_database_url) for _ in range(3)))
    engine = create_engine(make_url(empty_database_url).set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        assert _differences(connection) == []
        connection.rollback()
        tables.indexes.drop(connection)
        assert _differences(connection) != []
    engine.dispose()
