"""Limits towards providers, kept in the database: `admission` under a row lock.

Every statement runs inside a transaction of the journal's, after those on budgets, so that
all transactions lock rows in one order. While nothing is limited and the provider is well,
a claim only reads, and nobody waits for anybody's lock.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, and_, delete, extract, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.common.llm import admission
from services.common.llm.admission import Admission, LimitState, RatePolicy, Ticket, Turns
from services.common.llm.calls import CallFacts, CallKey, Completion
from services.common.llm.tables import llm_limits, llm_tickets

_HEADS = 16
"""Waiting calls of one campaign that are looked at: the next ones are seen next time."""

_LONGEST_POLL_SECONDS = 1.0
_POLLS_PER_SECOND = 50
"""Of all who wait for one model together: the more they are, the less often each asks."""

_SHORTEST_POLL_SECONDS = 0.02

Clock = Callable[[], ColumnElement[Any]]
"""Makes an expression for the present in Unix seconds."""


def database_clock() -> ColumnElement[Any]:
    """The database's own time: one clock for processes on all machines."""
    return extract("epoch", func.clock_timestamp())


@dataclass(frozen=True)
class Turn:
    """Whether a call may be sent.

    Attributes:
        admission: whether now, and why not.
        now: Unix seconds by the clock of the limits.
        poll_seconds: when to ask again.
        refused: its turn is further away than its caller would wait.
    """

    admission: Admission
    now: float
    poll_seconds: float = 0.0
    refused: bool = False


class Limiter:
    """Limits of every model of every endpoint, as one process keeps them.

    Args:
        policy: the same in all processes of a database.
        clock: of the database unless a test says otherwise.
    """

    def __init__(self, policy: RatePolicy, clock: Clock = database_clock) -> None:
        self.policy = policy
        self._clock = clock

    async def admit(
        self,
        connection: AsyncConnection,
        key: CallKey,
        facts: CallFacts,
        *,
        project: str,
        campaign: str,
        patience_seconds: float,
    ) -> Turn:
        """Takes a call's requests and tokens, or a ticket for its turn.

        Args:
            patience_seconds: how much longer the caller waits.
        """
        row = await self._read(connection, facts, lock=self.policy.limited)
        if not self.policy.limited:
            now = await self._now(connection) if row is None else float(row["now"])
            if row is None or _state(row).calm(self.policy, now):
                return Turn(Admission(True), now)
            row = await self._read(connection, facts, lock=True)
        if row is None:
            row = await self._created(connection, facts)
        mine = Ticket(key.digest(), project, campaign, facts.reserved_token_count)
        state = _state(row)
        now = max(float(row["now"]), state.refill_time)
        waiting = await self._waiting(connection, facts, now) if row["waiting"] else []
        if all(ticket.id != mine.id for ticket in waiting):
            waiting.append(mine)
        state, found = admission.admit(state, self.policy, now, waiting, mine)
        if found.admitted:
            await self._save(connection, facts, state)
            if row["waiting"]:
                await connection.execute(delete(llm_tickets).where(llm_tickets.c.id == mine.id))
            return Turn(found, now)
        turn = _turn(found, now, row["waiting"], patience_seconds)
        await self._queue(connection, facts, mine, turn)
        return turn

    async def settle(
        self, connection: AsyncConnection, facts: CallFacts, reply: Completion, sent_time: float
    ) -> None:
        """Tells the limits how a call ended."""
        failed = reply.failure in ("rate_limited", "unavailable")
        row = await self._read(connection, facts, lock=True, troubled=not self._always(failed))
        if row is None:
            if not self._always(failed):
                return
            row = await self._created(connection, facts)
        state, policy = _state(row), self.policy
        now = max(float(row["now"]), state.refill_time)
        if failed:
            state = admission.after_failure(
                state,
                policy,
                now,
                sent_time=sent_time,
                reason="RATE_LIMITED" if reply.failure == "rate_limited" else "LLM_UNAVAILABLE",
                delay_seconds=reply.retry_after_seconds,
            )
        else:
            unused = facts.reserved_token_count - reply.tokens.total if reply.tokens.total else 0
            state = admission.after_answer(
                state, policy, now, sent_time=sent_time, unused_token_count=unused
            )
        await self._save(connection, facts, state)

    def _always(self, failed: bool) -> bool:
        return failed or self.policy.tokens_per_minute is not None

    async def _read(
        self, connection: AsyncConnection, facts: CallFacts, *, lock: bool, troubled: bool = False
    ) -> RowMapping | None:
        """The row of a model, with `now` and how many calls are `waiting`.

        Args:
            troubled: only if there is something that an answer would change.
        """
        now = self._clock()
        waiting = (
            select(func.count())
            .select_from(llm_tickets)
            .where(_of(llm_tickets, facts), llm_tickets.c.expire_time >= now)
        )
        query = select(llm_limits, now.label("now"), waiting.scalar_subquery().label("waiting"))
        query = query.where(_of(llm_limits, facts))
        if troubled:
            query = query.where(
                (llm_limits.c.failure_count > 0) | llm_limits.c.pause_reason.is_not(None)
            )
        if lock:
            query = query.with_for_update(of=llm_limits)
        return (await connection.execute(query)).mappings().one_or_none()

    async def _created(self, connection: AsyncConnection, facts: CallFacts) -> RowMapping:
        row = insert(llm_limits).values(endpoint=facts.endpoint, model=facts.model)
        await connection.execute(row.on_conflict_do_nothing())
        found = await self._read(connection, facts, lock=True)
        if found is None:
            raise RuntimeError("a row of llm_limits vanished: nothing deletes them")
        return found

    async def _now(self, connection: AsyncConnection) -> float:
        return float((await connection.execute(select(self._clock()))).scalar_one())

    async def _waiting(
        self, connection: AsyncConnection, facts: CallFacts, now: float
    ) -> list[Ticket]:
        """The first waiting calls of every campaign, in the order they came."""
        columns = llm_tickets.c
        place = func.row_number().over(
            partition_by=(columns.project, columns.campaign), order_by=columns.number
        )
        heads = (
            select(llm_tickets, place.label("place"))
            .where(_of(llm_tickets, facts), columns.expire_time >= now)
            .subquery()
        )
        query = select(heads).where(heads.c.place <= _HEADS).order_by(heads.c.number)
        return [
            Ticket(row["id"], row["project"], row["campaign"], row["token_count"])
            for row in (await connection.execute(query)).mappings()
        ]

    async def _queue(
        self, connection: AsyncConnection, facts: CallFacts, mine: Ticket, turn: Turn
    ) -> None:
        """Draws or keeps the ticket of a caller that waits; that of one that does not, and
        those of callers that went away, are removed."""
        columns = llm_tickets.c
        gone = _of(llm_tickets, facts) & (columns.expire_time < turn.now)
        if turn.refused:
            await connection.execute(delete(llm_tickets).where(gone | (columns.id == mine.id)))
            return
        await connection.execute(delete(llm_tickets).where(gone, columns.id != mine.id))
        row = insert(llm_tickets).values(
            **dataclasses.asdict(mine),
            endpoint=facts.endpoint,
            model=facts.model,
            expire_time=turn.now + 3 * turn.poll_seconds + 2,
        )
        await connection.execute(
            row.on_conflict_do_update(
                index_elements=[columns.id], set_={"expire_time": row.excluded.expire_time}
            )
        )

    async def _save(self, connection: AsyncConnection, facts: CallFacts, state: LimitState) -> None:
        await connection.execute(
            update(llm_limits).where(_of(llm_limits, facts)).values(**dataclasses.asdict(state))
        )


def _turn(found: Admission, now: float, waiting: int, patience_seconds: float) -> Turn:
    longest = max(_LONGEST_POLL_SECONDS, waiting / _POLLS_PER_SECOND)
    return Turn(
        found,
        now,
        poll_seconds=max(_SHORTEST_POLL_SECONDS, min(found.wait_seconds, longest)),
        refused=found.wait_seconds > patience_seconds,
    )


def _state(row: RowMapping) -> LimitState:
    names = {field.name for field in dataclasses.fields(LimitState)} - {"turns"}
    return LimitState(**{name: row[name] for name in names}, turns=Turns(**row["turns"]))


def _of(table: Any, facts: CallFacts) -> ColumnElement[bool]:
    return and_(table.c.endpoint == facts.endpoint, table.c.model == facts.model)
