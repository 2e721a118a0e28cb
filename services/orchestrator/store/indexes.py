"""Rows of indexes and the progress of their shards."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from saexplain.activation.v1 import activation_pb2
from saexplain.explanation.v1 import explanation_pb2
from services.common.errors import NotFound
from services.common.names import parse_index
from services.orchestrator.store.pages import Cursor
from services.orchestrator.store.session import transaction
from services.orchestrator.store.tables import indexes

_RESTARTABLE = (explanation_pb2.RUN_STATE_FAILED, explanation_pb2.RUN_STATE_CANCELLED)
_ENDED = (explanation_pb2.RUN_STATE_SUCCEEDED, *_RESTARTABLE)


@dataclass(frozen=True)
class ShardProgress:
    """What a shard reported last.

    Attributes:
        done_token_count: tokens swept.
        tokens_per_second: measured by the indexer; 0 until it is known.
        done: True once the shard is stored.
    """

    done_token_count: int
    tokens_per_second: float
    done: bool


class IndexStore:
    """Indexes in one database."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def create(
        self, project: str, index_id: str, config: activation_pb2.IndexConfig, now: datetime
    ) -> RowMapping:
        """Commits a PENDING row, or finds the one with this id. One whose build failed or was
        cancelled is made PENDING again, with the next attempt."""
        values = {
            "project": project,
            "id": index_id,
            "config": config.SerializeToString(deterministic=True),
            "state": explanation_pb2.RUN_STATE_PENDING,
            "create_time": now,
        }
        again = {
            "state": explanation_pb2.RUN_STATE_PENDING,
            "attempt": indexes.c.attempt + 1,
            "shards": {},
            "failure_reason": None,
            "failure_message": None,
            "failure_step": None,
            "start_time": None,
            "end_time": None,
        }
        async with transaction(self._engine) as connection:
            await connection.execute(insert(indexes).values(values).on_conflict_do_nothing())
            await connection.execute(
                update(indexes)
                .where(
                    indexes.c.project == project,
                    indexes.c.id == index_id,
                    indexes.c.state.in_(_RESTARTABLE),
                )
                .values(again)
            )
            return await _row(connection, project, index_id)

    async def get(self, name: str) -> RowMapping:
        """The row of an index.

        Raises:
            NotFound: there is none (RESOURCE_NOT_FOUND).
        """
        async with transaction(self._engine) as connection:
            return await _row(connection, *parse_index(name, "name"))

    async def page(self, project: str, after: Cursor | None, size: int) -> list[RowMapping]:
        """At most `size` rows, newest first, behind `after`."""
        query = select(indexes).where(indexes.c.project == project)
        if after is not None:
            query = query.where(
                or_(
                    indexes.c.create_time < after.create_time,
                    and_(indexes.c.create_time == after.create_time, indexes.c.id < after.id),
                )
            )
        query = query.order_by(indexes.c.create_time.desc(), indexes.c.id.desc()).limit(size)
        async with transaction(self._engine) as connection:
            return list((await connection.execute(query)).mappings())

    async def pending(self, before: datetime, limit: int) -> list[RowMapping]:
        """PENDING rows that were created before a time, oldest first."""
        query = (
            select(indexes)
            .where(
                indexes.c.state == explanation_pb2.RUN_STATE_PENDING,
                indexes.c.create_time < before,
            )
            .order_by(indexes.c.create_time)
            .limit(limit)
        )
        async with transaction(self._engine) as connection:
            return list((await connection.execute(query)).mappings())

    async def begin(self, name: str, now: datetime) -> None:
        """Marks a build as running: its corpus is being read."""
        await self._update(name, {"state": explanation_pb2.RUN_STATE_RUNNING, "start_time": now})

    async def planned(self, name: str, key: str, total_token_count: int) -> None:
        """Writes what the plan says: the index's key, and the tokens to sweep."""
        await self._update(name, {"key": key, "total_token_count": total_token_count})

    async def progress(self, name: str, shard: int, progress: ShardProgress) -> None:
        """Writes what a shard reported; the row's progress is the sum over shards, its
        speed the sum over those that are being swept."""
        project, index_id = parse_index(name, "name")
        async with transaction(self._engine) as connection:
            row = await _row(connection, project, index_id, lock=True)
            if row["state"] in _ENDED:
                return
            shards = {
                **row["shards"],
                str(shard): [
                    progress.done_token_count,
                    progress.tokens_per_second,
                    progress.done,
                ],
            }
            speed = sum(speed for _, speed, done in shards.values() if not done)
            values = {
                "shards": shards,
                "done_token_count": sum(count for count, _, _ in shards.values()),
                # Between shards the last measured speed stands.
                "tokens_per_second": speed or row["tokens_per_second"],
            }
            await connection.execute(update(indexes).where(_is(project, index_id)).values(values))

    async def succeed(
        self, name: str, summary: activation_pb2.IndexSummary, fingerprint: str, now: datetime
    ) -> None:
        """Ends a build well."""
        await self._update(
            name,
            {
                "state": explanation_pb2.RUN_STATE_SUCCEEDED,
                "summary": summary.SerializeToString(deterministic=True),
                "artifact_fingerprint": fingerprint,
                "done_token_count": indexes.c.total_token_count,
                "end_time": now,
            },
        )

    async def end(
        self, name: str, failure: explanation_pb2.RunFailure | None, now: datetime
    ) -> None:
        """Ends a build without an index: failed, or cancelled where there is no failure."""
        values: dict[str, Any] = {
            "state": explanation_pb2.RUN_STATE_CANCELLED
            if failure is None
            else explanation_pb2.RUN_STATE_FAILED,
            "end_time": now,
        }
        if failure is not None:
            values |= {
                "failure_reason": failure.reason,
                "failure_message": failure.message,
                "failure_step": failure.step,
            }
        await self._update(name, values)

    async def _update(self, name: str, values: dict[str, Any]) -> None:
        """Changes a row that has not ended."""
        project, index_id = parse_index(name, "name")
        async with transaction(self._engine) as connection:
            await connection.execute(
                update(indexes)
                .where(_is(project, index_id), indexes.c.state.not_in(_ENDED))
                .values(values)
            )


def _is(project: str, index_id: str) -> Any:
    return and_(indexes.c.project == project, indexes.c.id == index_id)


async def _row(
    connection: AsyncConnection, project: str, index_id: str, *, lock: bool = False
) -> RowMapping:
    query = select(indexes).where(_is(project, index_id))
    if lock:
        query = query.with_for_update()
    row = (await connection.execute(query)).mappings().one_or_none()
    if row is None:
        raise NotFound(f"there is no {project}/indexes/{index_id}")
    return row
