"""The journal of calls: a reply is bought once, whoever asks and whoever dies.

    claim ── stored reply ──────────────────────────────────────────→ it, for nothing
      │ ──── in flight elsewhere, or no room beside others in flight ── wait, claim again
      └ ──── free: row IN_FLIGHT, lease, budget set aside ── send ──→ STORED or FAILED

A claim is one transaction under an advisory lock of its key. While a call is in flight
its lease is renewed; one that runs out is marked LOST by whoever comes next, who may
then repeat it. A reply is stored before anyone sees it. A caller that goes away does not
stop a call that was sent; a user's cancel does.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_exponential

from services.common.errors import Cancelled, SaexplainError, Unavailable
from services.common.llm import budgets, rows
from services.common.llm.calls import CallFacts, CallKey, CallRecord, Completion
from services.common.llm.prices import Price
from services.common.llm.tables import STATE_IN_FLIGHT, STATE_STORED

_log = structlog.get_logger(__name__)

_FIRST_POLL_SECONDS = 0.05
_LONGEST_POLL_SECONDS = 1.0
_LONGEST_RENEWAL_SECONDS = 5.0
"""A user's cancel is noticed at renewals: at least this often."""


class LeaseLost(Exception):
    """Another caller has declared this call LOST: what it brings is nobody's."""


class CallJournal:
    """The journal in one database, as one process uses it.

    Args:
        engine: of the database that holds `llm_calls` and `llm_budgets`.
        lease_seconds: how long a silent process keeps its claims.
    """

    def __init__(self, engine: AsyncEngine, *, lease_seconds: float = 60.0) -> None:
        self._engine = engine
        self._lease_seconds = lease_seconds
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
            ResourceExhausted: BUDGET_EXHAUSTED.
            Cancelled: a user cancelled the owner.
            FailedPrecondition: a limit in money and no known price.
            Unavailable: the database cannot be reached.
        """
        poll = _FIRST_POLL_SECONDS
        while True:
            claim = await self._claim(key, facts)
            if claim.row_id is not None:
                sending = asyncio.create_task(self._send(claim.row_id, key, facts, send, price))
                self._in_flight.add(sending)
                sending.add_done_callback(self._in_flight.discard)
                with suppress(LeaseLost):
                    reply = await asyncio.shield(sending)
                    records = await self._records(key)
                    return [*records[:-1], replace(records[-1], failure=reply.failure)]
            elif claim.records and claim.records[-1].state == STATE_STORED:
                return claim.records
            else:
                await asyncio.sleep(poll)
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
        async with self._transaction() as connection:
            found = await rows.of_owner(connection, owner)
        return [record for record in found if record.state != STATE_IN_FLIGHT]

    async def _claim(self, key: CallKey, facts: CallFacts) -> rows.Claim:
        async with self._transaction() as connection:
            await rows.lock_key(connection, key)
            await rows.end_expired(connection, key.owner)
            known = await rows.of_key(connection, key)
            if known and known[-1].state in (STATE_STORED, STATE_IN_FLIGHT):
                return rows.Claim(None, rows.reused(known))
            room = await budgets.reserve(connection, key.owner, facts)
            if room is budgets.Reservation.LATER:
                return rows.Claim(None, known)
            if room is budgets.Reservation.MADE:
                row_id = await rows.insert_claim(
                    connection, key, facts, len(known) + 1, self._lease_seconds, uuid.uuid4().hex
                )
                return rows.Claim(row_id, known)
        # Outside of the transaction: what was found expired stays LOST.
        raise room

    async def _send(
        self,
        row_id: int,
        key: CallKey,
        facts: CallFacts,
        send: Callable[[], Awaitable[Completion]],
        price: Price | None,
    ) -> Completion:
        request = asyncio.ensure_future(send())
        guard = asyncio.create_task(self._renew(row_id, key.owner))
        try:
            await asyncio.wait({request, guard}, return_when=asyncio.FIRST_COMPLETED)
            if not request.done():
                await self._give_up(row_id, key, guard)
            reply = request.result()
            await self._settle(row_id, key, facts, reply, price)
            return reply
        except asyncio.CancelledError:
            # Only `drain` cancels this: callers wait behind a shield.
            await self._lose(row_id, key, "the process ended")
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
                async with self._transaction() as connection:
                    if not await rows.renew(connection, row_id, self._lease_seconds):
                        raise LeaseLost
                    if await budgets.is_cancelled(connection, owner):
                        raise Cancelled("the run was cancelled")
            except Unavailable:
                # The lease may run out meanwhile; the next renewal will tell.
                _log.warning("llm_lease_not_renewed", call=row_id)

    async def _settle(
        self, row_id: int, key: CallKey, facts: CallFacts, reply: Completion, price: Price | None
    ) -> None:
        """Stores how a call ended. The reply is paid for: a database that is away for a
        moment must not lose it."""
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(Unavailable),
            stop=stop_after_delay(self._lease_seconds),
            wait=wait_exponential(multiplier=0.1, max=5),
            reraise=True,
        ):
            with attempt:
                async with self._transaction() as connection:
                    if not await rows.settle(connection, row_id, key, facts, reply, price):
                        raise LeaseLost

    async def _give_up(self, row_id: int, key: CallKey, guard: asyncio.Task[None]) -> None:
        """Raises what ended the guard: LeaseLost or Cancelled."""
        if isinstance(guard.exception(), Cancelled):
            await self._lose(row_id, key, "cancelled by a user")
        guard.result()

    async def _lose(self, row_id: int, key: CallKey, why: str) -> None:
        async with self._transaction() as connection:
            await rows.mark_lost(connection, row_id, key.owner, why)

    async def _records(self, key: CallKey) -> list[CallRecord]:
        async with self._transaction() as connection:
            return await rows.of_key(connection, key)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        try:
            async with self._engine.begin() as connection:
                yield connection
        except SaexplainError:
            raise
        except (DBAPIError, PoolTimeout, OSError) as error:
            raise Unavailable(
                f"the database of the call journal: {type(error).__name__}",
                "BACKEND_UNAVAILABLE",
            ) from error
