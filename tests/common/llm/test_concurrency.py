"""Guards invariant 5, budgets and limits with many callers on one real PostgreSQL:
stored <= the provider's count <= stored + LOST, whoever dies when."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from decimal import Decimal

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from services.common import errors
from services.common.database import create_engine
from services.common.llm import budgets
from services.common.llm.admission import RatePolicy
from services.common.llm.journal import CallJournal
from services.common.llm.limits import Limiter
from services.common.llm.tables import llm_budgets, llm_calls, llm_limits, llm_tickets
from services.common.llm.transactions import run_transaction
from tests.common.llm.callers import DOWN, OK, Provider, VirtualTime, facts, key, ok, throttled

PROJECT = "projects/p"
CAMPAIGN = f"{PROJECT}/campaigns/c"


async def _states(engine) -> Counter[str]:
    async with engine.connect() as connection:
        return Counter((await connection.execute(select(llm_calls.c.state))).scalars())


async def _limit(engine, owner: str, **limits) -> None:
    async with engine.begin() as connection:
        await budgets.create_budget(connection, owner, **{"max_token_count": None, **limits})


async def _budget(engine, owner: str) -> dict:
    query = select(llm_budgets).where(llm_budgets.c.owner == owner)
    async with engine.connect() as connection:
        return dict((await connection.execute(query)).mappings().one())


async def _expire_leases(connection: AsyncConnection) -> None:
    gone = update(llm_calls).where(llm_calls.c.state == "IN_FLIGHT")
    await connection.execute(gone.values(lease_expire_time=llm_calls.c.create_time))


@pytest.mark.parametrize("seed", [1, 2])
async def test_64_callers_of_16_keys_whose_holders_die_buy_each_reply_once(
    engine, database_url, seed
) -> None:
    """Holders die by their leases being over; some that seemed dead wake up and bring a
    reply that is no longer theirs to store. Budgets are balanced in the end."""
    chance = random.Random(seed)
    await _limit(engine, PROJECT, max_token_count=10**9)
    owners = [f"{PROJECT}/explanations/e{n}" for n in range(4)]
    for owner in owners[:2]:
        await _limit(engine, owner, max_token_count=10**9, campaign=CAMPAIGN)
    await _limit(engine, CAMPAIGN, max_token_count=10**9)

    async def answer(number: int):
        await asyncio.sleep(chance.uniform(0.0, 0.05))
        if number % 5 == 2:  # its process seems dead: whoever waits may go on
            await run_transaction(engine, _expire_leases)
            await asyncio.sleep(0.1)
        return OK

    provider = Provider(answer)
    engines = [create_engine(database_url, pool_size=4) for _ in range(4)]
    policy = RatePolicy(requests_per_minute=60_000, tokens_per_minute=6_000_000)
    journals = [CallJournal(e, limiter=Limiter(policy), lease_seconds=30) for e in engines]
    keys = [key(number % 16, owners[number % 4]) for number in range(64)]
    chance.shuffle(keys)
    found = await asyncio.gather(
        *(
            journals[place % 4].call(one, facts(), provider.sender(one))
            for place, one in enumerate(keys)
        )
    )
    for journal in journals:
        await journal.drain()
    for other in engines:
        await other.dispose()
    states = await _states(engine)
    assert {records[-1].state for records in found} == {"STORED"}
    assert states["STORED"] == 16
    assert states["LOST"] > 0
    assert 16 <= provider.seen.total() <= 16 + states["LOST"]
    for owner, share in ((PROJECT, 1), (CAMPAIGN, None), (owners[0], None)):
        row = await _budget(engine, owner)
        assert row["reserved_token_count"] == 0
        if share:
            assert row["spent_token_count"] == 60 * 16 + 100 * states["LOST"]


async def test_a_campaign_and_a_project_bound_what_their_explanations_spend_together(
    engine,
) -> None:
    """32 callers at once; no limit is passed by a single token, nor refused early."""
    await _limit(engine, PROJECT, max_token_count=1000)
    await _limit(engine, CAMPAIGN, max_token_count=500)
    owners = [f"{PROJECT}/explanations/e{n}" for n in range(32)]
    for owner in owners[:16]:
        await _limit(engine, owner, campaign=CAMPAIGN)
    provider, journal = Provider(ok), CallJournal(engine)
    found = await asyncio.gather(
        *(
            journal.call(key(n, owner), facts(), provider.sender(key(n, owner)))
            for n, owner in enumerate(owners)
        ),
        return_exceptions=True,
    )
    refused = [error for error in found if isinstance(error, errors.ResourceExhausted)]
    assert {error.reason for error in refused} == {"BUDGET_EXHAUSTED"}
    assert {error.metadata["owner"] for error in refused} == {PROJECT, CAMPAIGN}
    campaign, project = await _budget(engine, CAMPAIGN), await _budget(engine, PROJECT)
    # A call costs 60 and needs 100 beforehand.
    assert 400 < campaign["spent_token_count"] <= 500
    assert 900 < project["spent_token_count"] <= 1000
    assert project["spent_token_count"] == 60 * provider.seen.total()


async def test_a_limit_in_money_of_a_campaign_can_be_raised_while_it_runs(engine) -> None:
    owner = f"{PROJECT}/explanations/e"
    await _limit(engine, owner, campaign=CAMPAIGN)
    await _limit(engine, CAMPAIGN, max_cost=Decimal("0.01"))
    provider, journal = Provider(ok), CallJournal(engine)
    dear = facts(cost=Decimal("0.02"))
    with pytest.raises(errors.ResourceExhausted) as caught:
        await journal.call(key(0, owner), dear, provider.sender(key(0, owner)))
    assert caught.value.metadata["unit"] == "USD"
    async with engine.begin() as connection:
        await budgets.change_limits(
            connection, CAMPAIGN, max_token_count=None, max_cost=Decimal("0.05")
        )
    assert await journal.call(key(0, owner), dear, provider.sender(key(0, owner)))


async def test_a_cancelled_campaign_begins_no_call(engine) -> None:
    owner = f"{PROJECT}/explanations/e"
    await _limit(engine, owner, campaign=CAMPAIGN)
    async with engine.begin() as connection:
        await budgets.cancel_owner(connection, CAMPAIGN)
    provider = Provider(ok)
    with pytest.raises(errors.Cancelled):
        await CallJournal(engine).call(key(0, owner), facts(), provider.sender(key(0, owner)))
    assert provider.seen.total() == 0


async def test_what_a_dead_owner_set_aside_does_not_block_its_project_for_ever(engine) -> None:
    """Its explanation may never call again: others of the project end its call."""
    await _limit(engine, PROJECT, max_token_count=250)
    dead, journal = f"{PROJECT}/explanations/dead", CallJournal(engine)
    sent = asyncio.Event()

    async def hang(_: int):
        sent.set()
        await asyncio.sleep(3600)
        return OK

    hanging = Provider(hang)
    call = asyncio.create_task(journal.call(key(0, dead), facts(200), hanging.sender(key(0, dead))))
    await sent.wait()
    async with engine.begin() as connection:
        await connection.execute(
            update(llm_calls).values(lease_expire_time=llm_calls.c.create_time)
        )
    await _limit(engine, f"{PROJECT}/explanations/e", max_token_count=None)
    provider = Provider(ok)
    small = journal.call(key(1), facts(50), provider.sender(key(1)))
    assert (await asyncio.wait_for(small, 10))[-1].state == "STORED"
    with pytest.raises(errors.ResourceExhausted):  # 200 may have been charged
        await journal.call(key(2), facts(100), provider.sender(key(2)))
    call.cancel()
    await journal.drain(0.05)


def _limited(engine, time: VirtualTime, **policy) -> CallJournal:
    chance = random.Random(3)
    return CallJournal(
        engine,
        limiter=Limiter(RatePolicy(**policy), clock=time),
        sleep=time.sleep,
        jitter=chance.random,
    )


async def test_a_limit_per_minute_holds_over_several_processes(engine) -> None:
    time, times = VirtualTime(), []

    async def answer(_: int):
        times.append(time.seconds)
        return OK

    provider = Provider(answer)
    journals = [
        _limited(engine, time, requests_per_minute=60, burst_seconds=2, patience_seconds=1e6)
        for _ in range(3)
    ]
    await asyncio.gather(
        *(journals[n % 3].call(key(n), facts(), provider.sender(key(n))) for n in range(24))
    )
    assert len(times) == 24
    # Two are saved up, one more comes with every second: no request before its second.
    assert all(sent >= 1_000_000 + number - 1 for number, sent in enumerate(times))
    async with engine.connect() as connection:
        assert (await connection.execute(select(llm_tickets))).all() == []


async def test_a_429_in_one_process_stops_the_others_and_its_delay_is_passed_on(engine) -> None:
    time = VirtualTime()

    async def answer(number: int):
        return throttled(45.0) if number == 0 else OK

    provider = Provider(answer)
    first, second = _limited(engine, time), _limited(engine, time)
    records = await first.call(key(0), facts(), provider.sender(key(0)))
    assert records[-1].failure == "rate_limited"
    with pytest.raises(errors.ResourceExhausted) as caught:
        await second.call(key(1), facts(), provider.sender(key(1)))
    assert caught.value.reason == "RATE_LIMITED"
    assert 45 <= caught.value.retry_after_seconds <= 45 * 1.25
    time.seconds += 40  # near enough to wait for
    assert (await second.call(key(1), facts(), provider.sender(key(1))))[-1].state == "STORED"
    assert time.seconds >= 1_000_045
    assert provider.seen.total() == 2


async def test_an_outage_costs_a_bounded_number_of_requests(engine) -> None:
    """Ten minutes down, 40 callers that come back when they are told to: without the
    circuit each would burn its retries; with it only probes are sent."""
    time = VirtualTime()
    up_from = time.seconds + 600

    async def answer(_: int):
        return OK if time.seconds >= up_from else DOWN

    provider = Provider(answer)
    journal = _limited(engine, time)
    pending, delays = list(range(40)), []
    while pending:
        number = pending.pop(0)
        try:
            records = await journal.call(key(number), facts(), provider.sender(key(number)))
        except errors.Unavailable as refusal:
            assert refusal.reason == "LLM_UNAVAILABLE"
            delays.append(refusal.retry_after_seconds)
            time.seconds += refusal.retry_after_seconds / 10
            pending.append(number)
            continue
        if records[-1].state != "STORED":
            pending.append(number)
    failed = (await _states(engine))["FAILED"]
    assert delays
    assert 5 <= failed <= 16
    assert provider.seen.total() == 40 + failed


async def test_a_provider_without_limits_and_troubles_costs_no_lock(engine) -> None:
    """Guards the claim's speed: a row per model would serialize all workers."""
    provider, journal = Provider(ok), CallJournal(engine, limiter=Limiter(RatePolicy()))
    await asyncio.gather(
        *(journal.call(key(n), facts(), provider.sender(key(n))) for n in range(8))
    )
    async with engine.connect() as connection:
        assert (await connection.execute(select(llm_limits))).all() == []


async def test_a_deadlock_is_repeated(engine) -> None:
    """Two transactions that lock two budgets crosswise: one is chosen as the victim."""
    for owner in ("a", "b"):
        await _limit(engine, owner, max_token_count=1)
    both_hold_one, tries = asyncio.Barrier(2), 0

    async def crosswise(connection, names):
        nonlocal tries
        tries += 1
        lock = text("SELECT 1 FROM llm_budgets WHERE owner = :owner FOR UPDATE")
        await connection.execute(lock, {"owner": names[0]})
        if tries <= 2:
            await both_hold_one.wait()
        await connection.execute(lock, {"owner": names[1]})
        return names

    found = await asyncio.gather(
        *(run_transaction(engine, lambda c, n=n: crosswise(c, n)) for n in ("ab", "ba"))
    )
    assert found == ["ab", "ba"]
    assert tries == 3


async def test_a_failure_that_is_no_deadlock_is_not_repeated(engine) -> None:
    """Negative control."""
    tries = 0

    async def wrong(connection):
        nonlocal tries
        tries += 1
        await connection.execute(text("SELECT 1 FROM nowhere"))

    with pytest.raises(errors.Unavailable) as caught:
        await run_transaction(engine, wrong)
    assert not isinstance(caught.value.__cause__, OperationalError)
    assert tries == 1
