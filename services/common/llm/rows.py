"""Rows of the call journal: every statement that reads or writes `llm_calls`.

All run inside a transaction of the caller's. Time is the database's, so that processes
on several machines agree on when a lease runs out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, and_, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from saexplain.common.v1 import usage_pb2 as pb
from services.common.llm import budgets
from services.common.llm.calls import (
    CallFacts,
    CallKey,
    CallRecord,
    Completion,
    TokenAlternatives,
    TokenCounts,
)
from services.common.llm.limits import Turn
from services.common.llm.prices import Price
from services.common.llm.tables import (
    STATE_FAILED,
    STATE_IN_FLIGHT,
    STATE_LOST,
    STATE_STORED,
    llm_calls,
)

LEASE_RAN_OUT = "the lease ran out"

_PREFIX = "LLM_CALL_OUTCOME_"
_MOST_EXPIRED = 100


@dataclass(frozen=True)
class Claim:
    """What a claim found.

    Attributes:
        row_id: the new row to send under; None where there is a reply, a call in
            flight, no room in a budget beside the calls in flight, or no turn yet.
        records: the requests made under the key before, oldest first.
        turn: what the limits towards the provider said; None if they were not asked.
        crowded: a budget has no room beside the calls in flight.
    """

    row_id: int | None
    records: list[CallRecord]
    turn: Turn | None = None
    crowded: bool = False


async def lock_key(connection: AsyncConnection, key: CallKey) -> None:
    """Makes claims of one key wait for each other until the transaction ends."""
    name = "\x1f".join(str(part) for part in dataclasses.astuple(key))
    await connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))


async def of_key(connection: AsyncConnection, key: CallKey) -> list[CallRecord]:
    """All requests under a key, oldest first."""
    query = select(llm_calls).where(_is_key(key)).order_by(llm_calls.c.attempt)
    return [_record(row) for row in (await connection.execute(query)).mappings()]


async def of_owner(connection: AsyncConnection, owner: str) -> list[CallRecord]:
    """All requests of an owner, oldest first."""
    query = select(llm_calls).where(llm_calls.c.owner == owner).order_by(llm_calls.c.id)
    return [_record(row) for row in (await connection.execute(query)).mappings()]


async def end_expired(connection: AsyncConnection, owner: str) -> None:
    """Marks calls of an owner whose lease ran out as LOST, and frees what was set aside
    for them."""
    expired = (
        select(llm_calls.c.id)
        .where(
            llm_calls.c.owner == owner,
            llm_calls.c.state == STATE_IN_FLIGHT,
            llm_calls.c.lease_expire_time < func.clock_timestamp(),
        )
        .order_by(llm_calls.c.id)
        # A row that its own process is just ending is not ours to wait for: it may wait
        # for the budget that we hold.
        .with_for_update(skip_locked=True)
    )
    for row_id in (await connection.execute(expired)).scalars().all():
        await mark_lost(connection, row_id, owner, LEASE_RAN_OUT)


async def expired(connection: AsyncConnection, project: str) -> list[tuple[int, str]]:
    """Some calls below a project whose lease ran out: row and owner."""
    query = (
        select(llm_calls.c.id, llm_calls.c.owner)
        .where(
            llm_calls.c.state == STATE_IN_FLIGHT,
            llm_calls.c.lease_expire_time < func.clock_timestamp(),
            llm_calls.c.owner.startswith(f"{project}/", autoescape=True),
        )
        .limit(_MOST_EXPIRED)
    )
    return [(row.id, row.owner) for row in await connection.execute(query)]


async def end_if_expired(connection: AsyncConnection, row_id: int, owner: str) -> None:
    """Marks a call LOST unless its lease was renewed since."""
    query = select(llm_calls.c.id).where(
        _in_flight(row_id), llm_calls.c.lease_expire_time < func.clock_timestamp()
    )
    if (await connection.execute(query.with_for_update(skip_locked=True))).first() is not None:
        await mark_lost(connection, row_id, owner, LEASE_RAN_OUT)


async def insert_claim(
    connection: AsyncConnection,
    key: CallKey,
    facts: CallFacts,
    attempt: int,
    lease_seconds: float,
    holder: str,
) -> int:
    """Inserts an IN_FLIGHT row and returns its id."""
    row = insert(llm_calls).values(
        **dataclasses.asdict(key),
        attempt=attempt,
        state=STATE_IN_FLIGHT,
        holder=holder,
        lease_expire_time=_lease_end(lease_seconds),
        endpoint=facts.endpoint,
        model=facts.model,
        schema_name=facts.schema_name,
        prompt_fingerprint=facts.prompt_fingerprint,
        reserved_token_count=facts.reserved_token_count,
        reserved_cost=facts.reserved_cost,
    )
    row_id: int = (await connection.execute(row.returning(llm_calls.c.id))).scalar_one()
    return row_id


async def renew(connection: AsyncConnection, row_id: int, lease_seconds: float) -> bool:
    """Moves the end of a lease; False if the row is no longer in flight."""
    change = (
        update(llm_calls)
        .where(_in_flight(row_id))
        .values(lease_expire_time=_lease_end(lease_seconds))
    )
    return bool((await connection.execute(change)).rowcount)


async def settle(
    connection: AsyncConnection,
    row_id: int,
    key: CallKey,
    facts: CallFacts,
    reply: Completion,
    price: Price | None,
) -> bool:
    """Stores how a call ended and settles the budget; False if it is not in flight."""
    # Where the provider counted nothing, the cost is unknown, not 0.
    cost = price.cost(reply.tokens) if price is not None and reply.tokens.total else None
    change = (
        update(llm_calls)
        .where(_in_flight(row_id))
        .values(
            state=STATE_STORED if reply.failure is None else STATE_FAILED,
            outcome=_outcome_name(reply.outcome),
            # PostgreSQL's text cannot hold NUL; a reply with one never parses anyway.
            detail=_storable(reply.detail),
            reply=_storable(reply.text),
            alternatives=_to_json(reply.alternatives),
            http_status=reply.http_status,
            retry_after_seconds=reply.retry_after_seconds,
            prompt_token_count=reply.tokens.prompt,
            cached_prompt_token_count=reply.tokens.cached_prompt,
            completion_token_count=reply.tokens.completion,
            reasoning_token_count=reply.tokens.reasoning,
            cost=cost,
            currency_code=facts.currency_code if cost is not None else None,
            end_time=func.clock_timestamp(),
        )
    )
    if not (await connection.execute(change)).rowcount:
        return False
    unknown = reply.maybe_charged or (reply.failure is None and not reply.tokens.total)
    await budgets.settle(
        connection,
        key.owner,
        reserved_token_count=facts.reserved_token_count,
        reserved_cost=facts.reserved_cost,
        spent_token_count=facts.reserved_token_count if unknown else reply.tokens.total,
        spent_cost=facts.reserved_cost if unknown else cost,
    )
    return True


async def mark_lost(connection: AsyncConnection, row_id: int, owner: str, detail: str) -> None:
    """Ends a call of which nothing more is expected. Whether it was charged is not
    known: its budget counts it at its worst."""
    change = (
        update(llm_calls)
        .where(_in_flight(row_id))
        .values(
            state=STATE_LOST,
            outcome=_outcome_name(pb.LLM_CALL_OUTCOME_LOST),
            detail=detail,
            end_time=func.clock_timestamp(),
        )
        .returning(llm_calls.c.reserved_token_count, llm_calls.c.reserved_cost)
    )
    row = (await connection.execute(change)).one_or_none()
    if row is not None:
        await budgets.settle(
            connection,
            owner,
            reserved_token_count=row.reserved_token_count,
            reserved_cost=row.reserved_cost,
            spent_token_count=row.reserved_token_count,
            spent_cost=row.reserved_cost,
        )


def reused(records: Sequence[CallRecord]) -> list[CallRecord]:
    """The records with the stored reply among them marked as reused."""
    return [
        dataclasses.replace(record, reused=True) if record.state == STATE_STORED else record
        for record in records
    ]


def _is_key(key: CallKey) -> ColumnElement[bool]:
    return and_(*(llm_calls.c[name] == value for name, value in dataclasses.asdict(key).items()))


def _in_flight(row_id: int) -> ColumnElement[bool]:
    return and_(llm_calls.c.id == row_id, llm_calls.c.state == STATE_IN_FLIGHT)


def _lease_end(lease_seconds: float) -> ColumnElement[Any]:
    return func.clock_timestamp() + timedelta(seconds=lease_seconds)


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode().replace("\x00", "�")


def _to_json(alternatives: tuple[TokenAlternatives, ...] | None) -> list[Any] | None:
    if alternatives is None:
        return None
    return [
        [_storable(a.token), [[_storable(token), value] for token, value in a.top]]
        for a in alternatives
    ]


def _from_json(stored: list[Any] | None) -> tuple[TokenAlternatives, ...] | None:
    if stored is None:
        return None
    return tuple(
        TokenAlternatives(token, tuple((text, float(value)) for text, value in top))
        for token, top in stored
    )


def _outcome_name(outcome: pb.LlmCallOutcome.ValueType) -> str:
    return pb.LlmCallOutcome.Name(outcome).removeprefix(_PREFIX)


def _record(row: RowMapping) -> CallRecord:
    outcome = row["outcome"]
    cost: Decimal | None = row["cost"]
    return CallRecord(
        number=row["id"],
        attempt=row["attempt"],
        state=row["state"],
        step=row["step"],
        model=row["model"],
        prompt_fingerprint=row["prompt_fingerprint"],
        outcome=pb.LlmCallOutcome.Value(_PREFIX + (outcome or "UNSPECIFIED")),
        text=row["reply"] or "",
        detail=row["detail"] or "",
        tokens=TokenCounts(
            prompt=row["prompt_token_count"],
            cached_prompt=row["cached_prompt_token_count"],
            completion=row["completion_token_count"],
            reasoning=row["reasoning_token_count"],
        ),
        cost=cost,
        currency_code=row["currency_code"] or "",
        retry_after_seconds=row["retry_after_seconds"],
        alternatives=_from_json(row["alternatives"]),
    )
