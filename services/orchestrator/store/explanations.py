"""Rows of explanations and their events.

An event's sequence is taken under the row's lock and an event's key is unique, so that
sequences have no gaps and a repeated step appends nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, insert, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from saexplain.common.v1 import explanation_pb2 as common_explanation
from saexplain.common.v1 import usage_pb2
from saexplain.explanation.v1 import dossier_pb2, explanation_pb2
from services.common.artifact_ref import ArtifactRef
from services.common.errors import AlreadyExists, NotFound
from services.common.names import explanation_name, parse_explanation
from services.orchestrator.budgets import add_usage
from services.orchestrator.records import ExplainInput
from services.orchestrator.store.pages import Cursor
from services.orchestrator.store.session import transaction
from services.orchestrator.store.tables import explanation_events, explanations

CHANNEL = "explanation_events"
ENDED = (
    explanation_pb2.RUN_STATE_SUCCEEDED,
    explanation_pb2.RUN_STATE_FAILED,
    explanation_pb2.RUN_STATE_CANCELLED,
)


@dataclass(frozen=True)
class NewExplanation:
    """A frozen run that is to be kept. One that only scores has its explanation from the
    start, and the name of what it scores unless that came from elsewhere."""

    project: str
    id: str
    request_id: str
    request_hash: str
    feature: str
    sae: str
    plan: bytes
    workflow_input: ExplainInput
    explanation: common_explanation.Explanation | None = None
    scored_explanation: str = ""


@dataclass(frozen=True)
class Ending:
    """How a run ended; empty fields leave the row's as they are."""

    state: explanation_pb2.RunState.ValueType
    failure: explanation_pb2.RunFailure | None = None
    scores: explanation_pb2.ExplanationResource | None = None
    dossier: ArtifactRef | None = None
    run_record: ArtifactRef | None = None
    dossier_digest: str = ""
    stop_reason: dossier_pb2.StopReason.ValueType = dossier_pb2.STOP_REASON_UNSPECIFIED
    partial: bool = False


class ExplanationStore:
    """Explanations and their events in one database."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def create(self, new: NewExplanation, now: datetime) -> tuple[RowMapping, bool]:
        """Commits a PENDING row, or finds the one with the same request id.

        Returns:
            The row and whether it is new.

        Raises:
            AlreadyExists: the request id was used with another request (REQUEST_ID_REUSED).
        """
        values: dict[str, Any] = {
            "project": new.project,
            "id": new.id,
            "request_id": new.request_id,
            "request_hash": new.request_hash,
            "feature": new.feature,
            "sae": new.sae,
            "state": explanation_pb2.RUN_STATE_PENDING,
            "plan": new.plan,
            "workflow_input": new.workflow_input.model_dump(mode="json"),
            "scores_only": new.explanation is not None,
            "scored_explanation": new.scored_explanation,
            "create_time": now,
            "update_time": now,
        }
        if new.explanation is not None:
            values["explanation"] = new.explanation.SerializeToString(deterministic=True)
        async with transaction(self._engine) as connection:
            statement = upsert(explanations).values(values).on_conflict_do_nothing()
            created = (await connection.execute(statement)).rowcount == 1
            row = await _by_request(connection, new.project, new.request_id)
        if row is None:
            raise AlreadyExists(f"explanation {new.id} exists under another request id")
        _check_same_request(row, new.request_hash)
        return row, created

    async def find_request(
        self, project: str, request_id: str, request_hash: str
    ) -> RowMapping | None:
        """The row of a request that was made before, if it was.

        Raises:
            AlreadyExists: it was another request (REQUEST_ID_REUSED).
        """
        async with transaction(self._engine) as connection:
            row = await _by_request(connection, project, request_id)
        if row is not None:
            _check_same_request(row, request_hash)
        return row

    async def get(self, name: str) -> RowMapping:
        """The row of an explanation.

        Raises:
            NotFound: there is none (RESOURCE_NOT_FOUND).
        """
        async with transaction(self._engine) as connection:
            row = (await connection.execute(select(explanations).where(_is(name)))).mappings()
            found = row.one_or_none()
        if found is None:
            raise NotFound(f"there is no {name}")
        return found

    async def page(
        self,
        project: str,
        sae: str,
        state: int,
        after: Cursor | None,
        size: int,
        scored_explanation: str = "",
    ) -> list[RowMapping]:
        """At most `size` rows, newest first, behind `after`; an empty filter takes all."""
        query = select(explanations).where(explanations.c.project == project)
        if sae:
            query = query.where(explanations.c.sae == sae)
        if state:
            query = query.where(explanations.c.state == state)
        if scored_explanation:
            query = query.where(explanations.c.scored_explanation == scored_explanation)
        if after is not None:
            query = query.where(
                or_(
                    explanations.c.create_time < after.create_time,
                    and_(
                        explanations.c.create_time == after.create_time,
                        explanations.c.id < after.id,
                    ),
                )
            )
        query = query.order_by(explanations.c.create_time.desc(), explanations.c.id.desc())
        async with transaction(self._engine) as connection:
            return list((await connection.execute(query.limit(size))).mappings())

    async def orphans(self, before: datetime, limit: int) -> list[RowMapping]:
        """PENDING rows that were created before a time, oldest first."""
        query = (
            select(explanations)
            .where(
                explanations.c.state == explanation_pb2.RUN_STATE_PENDING,
                explanations.c.create_time < before,
            )
            .order_by(explanations.c.create_time)
            .limit(limit)
        )
        async with transaction(self._engine) as connection:
            return list((await connection.execute(query)).mappings())

    async def append(
        self,
        name: str,
        key: str,
        event: explanation_pb2.ExplanationEvent,
        now: datetime,
        usage: usage_pb2.LlmUsage | None = None,
        probe_count: int = 0,
    ) -> int:
        """Appends an event and adds what its step took to the row. An event with the same
        key is kept as it is, and nothing is added twice.

        Args:
            event: without sequence, time, state, usage and probe count.
            usage: what the step took.
            probe_count: probes that the step measured.

        Returns:
            The sequence of the new or the earlier event; 0 where the run has ended and
            takes no more events.
        """
        async with transaction(self._engine) as connection:
            row = await _lock(connection, name)
            earlier = await _event_of(connection, name, key)
            if earlier is not None:
                return earlier
            if row["state"] in ENDED:
                return 0
            total = usage_pb2.LlmUsage.FromString(row["usage"])
            add_usage(total, usage or usage_pb2.LlmUsage())
            values = {
                "state": explanation_pb2.RUN_STATE_RUNNING,
                "usage": total.SerializeToString(deterministic=True),
                "probe_count": row["probe_count"] + probe_count,
            }
            return await _append(connection, name, row, key, event, now, values)

    async def fix_explanation(
        self, name: str, explanation: common_explanation.Explanation, now: datetime
    ) -> None:
        """Writes the explanation into the row, before HELDOUT is read."""
        async with transaction(self._engine) as connection:
            await connection.execute(
                update(explanations)
                .where(_is(name))
                .values(
                    explanation=explanation.SerializeToString(deterministic=True), update_time=now
                )
            )

    async def end(
        self, name: str, ending: Ending, event: explanation_pb2.ExplanationEvent, now: datetime
    ) -> bool:
        """Ends a run with its last event, in one transaction. A run ends once: a later
        ending changes nothing.

        Returns:
            Whether this was the ending.
        """
        async with transaction(self._engine) as connection:
            row = await _lock(connection, name)
            if row["state"] in ENDED:
                return False
            values: dict[str, Any] = {
                "state": ending.state,
                "end_time": now,
                "stop_reason": ending.stop_reason,
                "partial": ending.partial,
                "dossier_digest": ending.dossier_digest,
            }
            if ending.failure is not None:
                values["failure_reason"] = ending.failure.reason
                values["failure_message"] = ending.failure.message
                values["failure_step"] = ending.failure.step
            if ending.scores is not None:
                values["scores"] = ending.scores.SerializeToString(deterministic=True)
            if ending.dossier is not None:
                values["dossier"] = ending.dossier.model_dump()
            if ending.run_record is not None:
                values["run_record"] = ending.run_record.model_dump()
            await _append(connection, name, row, "end", event, now, values)
            return True

    async def events(
        self, name: str, after_sequence: int, limit: int = 100
    ) -> list[explanation_pb2.ExplanationEvent]:
        """Events behind a sequence, in order."""
        project, explanation = parse_explanation(name)
        query = (
            select(explanation_events.c.event)
            .where(
                explanation_events.c.project == project,
                explanation_events.c.explanation == explanation,
                explanation_events.c.sequence > after_sequence,
            )
            .order_by(explanation_events.c.sequence)
            .limit(limit)
        )
        async with transaction(self._engine) as connection:
            rows = (await connection.execute(query)).scalars()
            return [explanation_pb2.ExplanationEvent.FromString(row) for row in rows]


def _is(name: str) -> Any:
    project, explanation = parse_explanation(name)
    return and_(explanations.c.project == project, explanations.c.id == explanation)


async def _by_request(
    connection: AsyncConnection, project: str, request_id: str
) -> RowMapping | None:
    query = select(explanations).where(
        explanations.c.project == project, explanations.c.request_id == request_id
    )
    return (await connection.execute(query)).mappings().one_or_none()


def _check_same_request(row: RowMapping, request_hash: str) -> None:
    if row["request_hash"] != request_hash:
        name = explanation_name(row["project"], row["id"])
        raise AlreadyExists(
            f"request_id {row['request_id']!r} was used for another request, {name}",
            metadata={"explanation": name},
        )


async def _lock(connection: AsyncConnection, name: str) -> RowMapping:
    query = select(explanations).where(_is(name)).with_for_update()
    row = (await connection.execute(query)).mappings().one_or_none()
    if row is None:
        raise NotFound(f"there is no {name}")
    return row


async def _event_of(connection: AsyncConnection, name: str, key: str) -> int | None:
    project, explanation = parse_explanation(name)
    query = select(explanation_events.c.sequence).where(
        explanation_events.c.project == project,
        explanation_events.c.explanation == explanation,
        explanation_events.c.key == key,
    )
    return (await connection.execute(query)).scalar_one_or_none()


async def _append(
    connection: AsyncConnection,
    name: str,
    row: RowMapping,
    key: str,
    event: explanation_pb2.ExplanationEvent,
    now: datetime,
    values: dict[str, Any],
) -> int:
    sequence = int(row["last_sequence"]) + 1
    stored = explanation_pb2.ExplanationEvent()
    stored.CopyFrom(event)
    stored.sequence = sequence
    stored.event_time.FromDatetime(now)
    stored.state = values["state"]
    stored.probe_count = values.get("probe_count", row["probe_count"])
    stored.usage.ParseFromString(values.get("usage", row["usage"]))
    # Single calls are in the run record; repeated in every event they would outgrow it.
    del stored.usage.calls[:]
    await connection.execute(
        insert(explanation_events).values(
            project=row["project"],
            explanation=row["id"],
            sequence=sequence,
            key=key,
            event=stored.SerializeToString(deterministic=True),
        )
    )
    await connection.execute(
        update(explanations)
        .where(_is(name))
        .values(**values, last_sequence=sequence, update_time=now)
    )
    # Delivered with the commit, never before.
    await connection.execute(
        text("SELECT pg_notify(:channel, :name)"), {"channel": CHANNEL, "name": name}
    )
    return sequence
