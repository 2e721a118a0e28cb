"""The journal of calls: a reply is bought once, whoever asks and whoever dies.

    claim ── stored reply ──────────────────────────────────────────→ it, for nothing
      │ ──── in flight elsewhere, or no room beside others in flight ── wait, claim again
      │ ──── not its turn at the provider ── wait and claim again, or refuse with a delay
      └ ──── free: row IN_FLIGHT, lease, budgets set aside ── send ─→ STORED or FAILED

A claim is one transaction under an advisory lock of its key. While a call is in flight
its lease is renewed; one that runs out is marked LOST by whoever comes next, who may
then repeat it. A reply is stored before anyone sees it. A caller that goes away does not
stop a call that was sent; a user's cancel does.

All transactions lock in one order: key, rows of calls, budgets, limits.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_exponential

from services.common.errors import Cancelled, ResourceExhausted, SaexplainError, Unavailable
from services.common.llm import budgets, rows
from services.common.llm.calls import CallFacts, CallKey, CallRecord, Completion
from services.common.llm.limits import Limiter, Turn
from services.common.llm.prices import Price
from services.common.llm.tables import STATE_IN_FLIGHT, STATE_STORED
from services.common.llm.transactions import run_transaction

_log = structlog.get_logger(__name__)

T = TypeVar("T")

_FIRST_POLL_SECONDS = 0.05
_LONGEST_POLL_SECONDS = 1.0
_LONGEST_RENEWAL_SECONDS = 5.0
"""A user's cancel is noticed at renewals: at least this often."""


class LeaseLost(Exception):
    """Another caller has declared this call LOST: what it brings is nobody's."""


@dataclass(frozen=True)
class _Call:
    """A call as it is claimed, sent and settled."""

    key: CallKey
    facts: CallFacts
    send: Callable[[], Awaitable[Completion]]
    price: Price | None


class CallJournal:
    """The journal in one database, as one process uses it.

    Args:
        engine: of the database that holds the tables of `tables`.
        lease_seconds: how long a silent process keeps its claims.
        limiter: towards providers; None for no limits.
        sleep: how callers wait.
        jitter: in [0, 1), spreads those who wait for the same.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        lease_seconds: float = 60.0,
        limiter: Limiter | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._engine = engine
        self._lease_seconds = lease_seconds
        self._limiter = limiter
        self._sleep = sleep
        self._jitter = jitter
        self._in_flight: set[asyncio.Task[Completion]] = set()

    async def call(
        self,
        key: CallKey,
        facts: CallFacts,
        send: Callable[[], Awaitable[Completion]],
        price: Price | None = None,
    ) -> list[CallRecord]:
        """Sends a call unless its reply is stored or on its way.

        Args:
            send: makes the request once; called at most once.
            price: of the model; None where it is not known.

        Returns:
            All requests made under the key so far, oldest first, none in flight. The
            last is STORED (its reply may be unusable) or the FAILED one just made.

        Raises:
            ResourceExhausted: BUDGET_EXHAUSTED; RATE_LIMITED, with a delay, where its turn
                at the provider is too far away.
            Cancelled: a user cancelled the owner.
            FailedPrecondition: a limit in money and no known price.
            Unavailable: the database cannot be reached; LLM_UNAVAILABLE, with a delay,
                where the provider has failed too often to be asked now.
        """
        call = _Call(key, facts, send, price)
        poll, waited = _FIRST_POLL_SECONDS, 0.0
        while True:
            claim = await self._claim(call, waited)
            if claim.row_id is not None:
                sending = asyncio.create_task(self._send(claim.row_id, call, claim.turn))
                self._in_flight.add(sending)
                sending.add_done_callback(self._in_flight.discard)
                with suppress(LeaseLost):
                    reply = await asyncio.shield(sending)
                    records = await self._records(key)
                    return [*records[:-1], replace(records[-1], failure=reply.failure)]
            elif claim.records and claim.records[-1].state == STATE_STORED:
                return claim.records
            elif claim.turn is not None:
                if claim.turn.refused:
                    raise _refusal(facts, claim.turn, self._jitter())
                waited += await self._pause(claim.turn.poll_seconds)
            else:
                if claim.crowded:
                    await self.end_expired(budgets.project_of(key.owner))
                await self._pause(poll)
                poll = min(2 * poll, _LONGEST_POLL_SECONDS)

    async def drain(self, seconds: float | None = None) -> None:
        """Waits for calls in flight, whose callers may be gone. What is not there in
        time is LOST; None waits for all."""
        if self._in_flight:
            await asyncio.wait(set(self._in_flight), timeout=seconds)
        for sending in tuple(self._in_flight):
            sending.cancel()
            await asyncio.wait({sending})

    async def owner_records(self, owner: str) -> list[CallRecord]:
        """All requests of an owner, oldest first, those in flight left out."""
        found = await self._run(lambda connection: rows.of_owner(connection, owner))
        return [record for record in found if record.state != STATE_IN_FLIGHT]

    async def end_expired(self, project: str) -> None:
        """Marks calls below `projects/{project}` whose lease ran out as LOST: what they set
        aside would keep others of the project waiting though their owners never return."""
        for row_id, owner in await self._run(lambda c: rows.expired(c, project)):
            # One by one: the order of locks is kept within each.
            await self._end_if_expired(row_id, owner)

    async def _end_if_expired(self, row_id: int, owner: str) -> None:
        await self._run(lambda connection: rows.end_if_expired(connection, row_id, owner))

    async def _pause(self, seconds: float) -> float:
        """Waits about so long, so that not all who wait come back at once."""
        spread = seconds * (0.75 + 0.5 * self._jitter())
        await self._sleep(spread)
        return spread

    async def _claim(self, call: _Call, waited: float) -> rows.Claim:
        found = await self._run(lambda connection: self._claim_in(connection, call, waited))
        if isinstance(found, SaexplainError):
            # Outside of the transaction: what was found expired stays LOST.
            raise found
        return found

    async def _claim_in(
        self, connection: AsyncConnection, call: _Call, waited: float
    ) -> rows.Claim | SaexplainError:
        key, facts = call.key, call.facts
        await rows.lock_key(connection, key)
        await rows.end_expired(connection, key.owner)
        known = await rows.of_key(connection, key)
        if known and known[-1].state in (STATE_STORED, STATE_IN_FLIGHT):
            return rows.Claim(None, rows.reused(known))
        check = await budgets.check(connection, key.owner, facts)
        if isinstance(check.verdict, SaexplainError):
            return check.verdict
        if check.verdict is budgets.Room.LATER:
            return rows.Claim(None, known, crowded=True)
        turn = None
        if self._limiter is not None:
            turn = await self._limiter.admit(
                connection,
                key,
                facts,
                project=budgets.project_of(key.owner),
                campaign=check.campaign,
                patience_seconds=self._limiter.policy.patience_seconds - waited,
            )
            if not turn.admission.admitted:
                return rows.Claim(None, known, turn)
        if check.limited:
            await budgets.set_aside(connection, key.owner, facts)
        row_id = await rows.insert_claim(
            connection, key, facts, len(known) + 1, self._lease_seconds, uuid.uuid4().hex
        )
        return rows.Claim(row_id, known, turn)

    async def _send(self, row_id: int, call: _Call, turn: Turn | None) -> Completion:
        request = asyncio.ensure_future(call.send())
        guard = asyncio.create_task(self._renew(row_id, call.key.owner))
        try:
            await asyncio.wait({request, guard}, return_when=asyncio.FIRST_COMPLETED)
            if not request.done():
                await self._give_up(row_id, call.key, guard)
            reply = request.result()
            await self._settle(row_id, call, reply, turn)
            return reply
        except asyncio.CancelledError:
            # Only `drain` cancels this: callers wait behind a shield.
            await self._lose(row_id, call.key, "the process ended")
            raise
        finally:
            for task in (request, guard):
                task.cancel()
            await asyncio.gather(request, guard, return_exceptions=True)

    async def _renew(self, row_id: int, owner: str) -> None:
        """Renews a lease until cancelled; ends in LeaseLost or Cancelled."""
        while True:
            await asyncio.sleep(min(self._lease_seconds / 3, _LONGEST_RENEWAL_SECONDS))
            try:
                await self._run(lambda connection: self._renew_in(connection, row_id, owner))
            except Unavailable:
                # The lease may run out meanwhile; the next renewal will tell.
                _log.warning("llm_lease_not_renewed", call=row_id)

    async def _renew_in(self, connection: AsyncConnection, row_id: int, owner: str) -> None:
        if not await rows.renew(connection, row_id, self._lease_seconds):
            raise LeaseLost
        if await budgets.is_cancelled(connection, owner):
            raise Cancelled("the run was cancelled")

    async def _settle(self, row_id: int, call: _Call, reply: Completion, turn: Turn | None) -> None:
        """Stores how a call ended. The reply is paid for: a database that is away for a
        moment must not lose it."""
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(Unavailable),
            stop=stop_after_delay(self._lease_seconds),
            wait=wait_exponential(multiplier=0.1, max=5),
            reraise=True,
        ):
            with attempt:
                await self._run(lambda c: self._settle_in(c, row_id, call, reply, turn))

    async def _settle_in(
        self,
        connection: AsyncConnection,
        row_id: int,
        call: _Call,
        reply: Completion,
        turn: Turn | None,
    ) -> None:
        if not await rows.settle(connection, row_id, call.key, call.facts, reply, call.price):
            raise LeaseLost
        if self._limiter is not None and turn is not None:
            await self._limiter.settle(connection, call.facts, reply, turn.now)

    async def _give_up(self, row_id: int, key: CallKey, guard: asyncio.Task[None]) -> None:
        """Raises what ended the guard: LeaseLost or Cancelled."""
        if isinstance(guard.exception(), Cancelled):
            await self._lose(row_id, key, "cancelled by a user")
        guard.result()

    async def _lose(self, row_id: int, key: CallKey, why: str) -> None:
        await self._run(lambda connection: rows.mark_lost(connection, row_id, key.owner, why))

    async def _records(self, key: CallKey) -> list[CallRecord]:
        return await self._run(lambda connection: rows.of_key(connection, key))

    async def _run(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        return await run_transaction(self._engine, work)


def _refusal(facts: CallFacts, turn: Turn, jitter: float) -> SaexplainError:
    """Why a call is not sent now, and when to come back: not all at once."""
    delay = turn.admission.wait_seconds * (1 + jitter / 4)
    metadata = {"model": facts.model, "endpoint": facts.endpoint}
    if turn.admission.reason == "LLM_UNAVAILABLE":
        return Unavailable(
            f"{facts.endpoint} fails too often to be asked for {facts.model} now",
            "LLM_UNAVAILABLE",
            metadata=metadata,
            retry_after_seconds=delay,
        )
    return ResourceExhausted(
        f"calls of {facts.model} at {facts.endpoint} have to wait their turn",
        "RATE_LIMITED",
        metadata=metadata,
        retry_after_seconds=delay,
    )
