"""Guards invariant 5: a stored reply is never bought again, a crash loses only calls in
flight, each a LOST row, and budgets hold. The load-bearing check is the count at the
provider, which knows nothing of the journal: stored <= sent <= stored + LOST."""

from __future__ import annotations

import asyncio
import sys
from decimal import Decimal

import pytest
from sqlalchemy import select, update

from saexplain.common.v1 import usage_pb2 as pb
from saexplain.common.v1.usage_pb2 import LlmOptions
from services.common import errors
from services.common.llm import budgets
from services.common.llm.tables import llm_budgets, llm_calls
from services.common.llm.usage import to_usage
from tests.common.llm.conftest import GOOD, OPTIONS, OWNER, QUESTION, journal_rows, scope
from tests.fakes.faults import Fault
from tests.fakes.openai_server import FakeOpenAi


def _held(event: asyncio.Event):
    """A responder that answers once the event is set."""

    async def respond(_):
        await event.wait()
        return GOOD

    return respond


async def _budget(engine) -> dict:
    async with engine.connect() as connection:
        return dict((await connection.execute(select(llm_budgets))).mappings().one())


async def _limit(engine, **limits) -> None:
    async with engine.begin() as connection:
        await budgets.create_budget(connection, OWNER, **{"max_token_count": None, **limits})


async def test_a_stored_reply_is_never_bought_again(connect) -> None:
    async with FakeOpenAi({"colour": GOOD}) as fake:
        first, second = connect(fake).session(scope()), connect(fake).session(scope())
        bought = await first.ask(QUESTION, OPTIONS)
        reused = await second.ask(QUESTION, OPTIONS)
        assert fake.count() == 1
    assert bought.value() == reused.value()
    assert first.usage().reused_reply_count == 0
    assert second.usage().reused_reply_count == 1
    assert second.usage().calls[0].reused
    assert second.usage().prompt_token_count == first.usage().prompt_token_count


@pytest.mark.parametrize("change", ["round", "ordinal", "step", "owner", "temperature", "model"])
async def test_another_key_is_another_call(connect, change) -> None:
    """Negative control: a journal that always answers with what it has is useless."""
    other, options = scope(), LlmOptions()
    options.CopyFrom(OPTIONS)
    if change in ("temperature", "model"):
        setattr(options, change, {"temperature": 0.25, "model": "other"}[change])
    else:
        values = {"round": 7, "ordinal": 7, "step": "other", "owner": OWNER + "2"}
        setattr(other, change, values[change])
    async with FakeOpenAi({"colour": GOOD}) as fake:
        model = connect(fake)
        await model.session(scope()).ask(QUESTION, OPTIONS)
        await model.session(other).ask(QUESTION, options)
        assert fake.count() == 2


async def test_concurrent_callers_of_one_key_share_one_call(connect) -> None:
    """Four callers in two processes' worth of journals; the provider sees one request."""
    answerable = asyncio.Event()
    async with FakeOpenAi({"colour": _held(answerable)}) as fake:
        models = [connect(fake), connect(fake)]
        callers = [
            asyncio.create_task(models[number % 2].session(scope()).ask(QUESTION, OPTIONS))
            for number in range(4)
        ]
        await fake.wait_for_count(1)
        answerable.set()
        answers = await asyncio.gather(*callers)
        assert fake.count() == 1
    assert {answer.value().name for answer in answers} == {"red"}


async def test_a_caller_that_goes_away_does_not_abort_the_call(connect, engine) -> None:
    answerable = asyncio.Event()
    async with FakeOpenAi({"colour": _held(answerable)}) as fake:
        model = connect(fake)
        caller = asyncio.create_task(model.session(scope()).ask(QUESTION, OPTIONS))
        await fake.wait_for_count(1)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        answerable.set()
        await model.journal.drain()
        assert await journal_rows(engine) == [(1, "STORED", "OK")]
        assert (await model.session(scope()).ask(QUESTION, OPTIONS)).ok
        assert fake.count() == 1


async def test_a_process_that_ends_waits_for_its_calls_but_not_for_ever(connect, engine) -> None:
    async with FakeOpenAi({"colour": Fault("hang")}) as fake:
        model = connect(fake)
        caller = asyncio.create_task(model.session(scope()).ask(QUESTION, OPTIONS))
        await fake.wait_for_count(1)
        await model.journal.drain(0.1)
        with pytest.raises(asyncio.CancelledError):
            await caller
    assert await journal_rows(engine) == [(1, "LOST", "LOST")]


async def test_the_call_of_a_killed_process_is_lost_and_repeated(
    connect, engine, database_url
) -> None:
    """A real process, killed with SIGKILL while the provider is thinking."""
    async with FakeOpenAi({"colour": [Fault("hang"), GOOD]}) as fake:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.common.llm.one_call", database_url, fake.base_url, "2")
        )
        await asyncio.wait_for(fake.wait_for_count(1), 240)
        process.kill()
        await process.wait()
        session = connect(fake, lease_seconds=2).session(scope())
        assert (await session.ask(QUESTION, OPTIONS)).ok
        assert fake.count() == 2
    assert await journal_rows(engine) == [(1, "LOST", "LOST"), (2, "STORED", "OK")]
    assert [call.outcome for call in session.usage().calls] == [
        pb.LLM_CALL_OUTCOME_LOST,
        pb.LLM_CALL_OUTCOME_OK,
    ]
    assert session.usage().failed_request_count == 1


async def test_a_living_call_keeps_its_lease_beyond_its_length(connect, engine) -> None:
    """Without the heartbeat the second caller would find the first one's lease expired."""
    answerable = asyncio.Event()
    async with FakeOpenAi({"colour": _held(answerable)}) as fake:
        first = asyncio.create_task(
            connect(fake, lease_seconds=0.6).session(scope()).ask(QUESTION, OPTIONS)
        )
        await fake.wait_for_count(1)
        second = asyncio.create_task(connect(fake).session(scope()).ask(QUESTION, OPTIONS))
        await asyncio.sleep(1.5)
        answerable.set()
        await asyncio.gather(first, second)
        assert fake.count() == 1
    assert await journal_rows(engine) == [(1, "STORED", "OK")]


async def test_a_call_declared_lost_brings_its_caller_the_reply_of_its_successor(
    connect, engine
) -> None:
    """A process that slept through its lease must not store over the row's end."""
    answerable = asyncio.Event()
    late = {"name": "late", "share": 0.0}

    async def slow(_):
        await answerable.wait()
        return late

    async with FakeOpenAi({"colour": [slow, GOOD]}) as fake:
        sleeper = asyncio.create_task(connect(fake).session(scope()).ask(QUESTION, OPTIONS))
        await fake.wait_for_count(1)
        async with engine.begin() as connection:
            expired = update(llm_calls).values(lease_expire_time=llm_calls.c.create_time)
            await connection.execute(expired)
        successor = await connect(fake).session(scope()).ask(QUESTION, OPTIONS)
        answerable.set()
        assert (await sleeper).value() == successor.value()
        assert successor.value().name == "red"
        assert fake.count() == 2
    assert await journal_rows(engine) == [(1, "LOST", "LOST"), (2, "STORED", "OK")]


async def test_a_spent_budget_refuses_a_call_before_it_is_sent(connect, engine) -> None:
    await _limit(engine, max_token_count=100)
    async with FakeOpenAi({"colour": GOOD}) as fake:
        with pytest.raises(errors.ResourceExhausted) as caught:
            await connect(fake).session(scope()).ask(QUESTION, OPTIONS)
        assert fake.count() == 0
    assert caught.value.reason == "BUDGET_EXHAUSTED"
    assert caught.value.metadata["unit"] == "tokens"
    assert await journal_rows(engine) == []


async def test_a_budget_counts_what_was_used_and_gives_the_rest_back(connect, engine) -> None:
    await _limit(engine, max_token_count=10_000)
    async with FakeOpenAi({"colour": GOOD}) as fake:
        session = connect(fake).session(scope())
        await session.ask(QUESTION, OPTIONS)
    usage, row = session.usage(), await _budget(engine)
    assert row["spent_token_count"] == usage.prompt_token_count + usage.completion_token_count
    assert row["reserved_token_count"] == 0


async def test_calls_that_fit_only_one_by_one_are_sent_one_by_one(connect, engine) -> None:
    """The limit holds at the worst case, and what is refused does not depend on timing."""
    answerable = asyncio.Event()
    async with FakeOpenAi({"colour": _held(answerable)}) as fake:
        model = connect(fake)
        await _limit(engine, max_token_count=400)
        callers = [
            asyncio.create_task(model.session(scope(n)).ask(QUESTION, OPTIONS)) for n in range(2)
        ]
        await fake.wait_for_count(1)
        await asyncio.sleep(0.5)
        assert fake.count() == 1
        answerable.set()
        assert all(answer.ok for answer in await asyncio.gather(*callers))
        assert fake.count() == 2


async def test_a_dead_process_does_not_block_the_budget_for_ever(connect, engine) -> None:
    """What it had set aside is counted as spent once its lease is over."""
    async with FakeOpenAi({"colour": [Fault("hang"), GOOD]}) as fake:
        model = connect(fake)
        await _limit(engine, max_token_count=10_000)
        dead = asyncio.create_task(model.session(scope(0)).ask(QUESTION, OPTIONS))
        await fake.wait_for_count(1)
        async with engine.begin() as connection:
            expired = update(llm_calls).values(lease_expire_time=llm_calls.c.create_time)
            await connection.execute(expired)
        assert (await connect(fake).session(scope(1)).ask(QUESTION, OPTIONS)).ok
        row = await _budget(engine)
        assert row["reserved_token_count"] == 0
        assert row["spent_token_count"] > 100
        dead.cancel()
        await model.journal.drain(0.1)


async def test_a_limit_in_money_holds(connect, engine) -> None:
    await _limit(engine, max_cost=Decimal("0.000001"))
    async with FakeOpenAi({"colour": GOOD}) as fake:
        with pytest.raises(errors.ResourceExhausted) as caught:
            await connect(fake).session(scope()).ask(QUESTION, LlmOptions(model="priced"))
        assert fake.count() == 0
    assert caught.value.metadata["unit"] == "USD"


async def test_a_limit_in_money_refuses_a_model_without_a_price(connect, engine) -> None:
    """An unknown price counted as 0 would let such a model spend without limit."""
    await _limit(engine, max_cost=Decimal(1))
    async with FakeOpenAi({"colour": GOOD}) as fake:
        with pytest.raises(errors.FailedPrecondition):
            await connect(fake).session(scope()).ask(QUESTION, OPTIONS)
        assert fake.count() == 0


@pytest.mark.parametrize(
    ("fault", "charged"), [(Fault("close"), True), (Fault("status", 500), False)]
)
async def test_what_may_have_been_charged_counts_at_its_worst(
    connect, engine, fault, charged
) -> None:
    await _limit(engine, max_token_count=10_000)
    async with FakeOpenAi({"colour": fault}) as fake:
        with pytest.raises(errors.Unavailable):
            await connect(fake).session(scope()).ask(QUESTION, OPTIONS)
    row = await _budget(engine)
    assert row["reserved_token_count"] == 0
    assert (row["spent_token_count"] > 0) is charged


async def test_a_users_cancel_stops_a_call_in_flight_and_forbids_more(connect, engine) -> None:
    async with FakeOpenAi({"colour": Fault("hang")}) as fake:
        model = connect(fake, lease_seconds=0.3)
        caller = asyncio.create_task(model.session(scope()).ask(QUESTION, OPTIONS))
        await fake.wait_for_count(1)
        async with engine.begin() as connection:
            await budgets.cancel_owner(connection, OWNER)
        with pytest.raises(errors.Cancelled):
            await caller
        with pytest.raises(errors.Cancelled):
            await model.session(scope(1)).ask(QUESTION, OPTIONS)
        assert fake.count() == 1
    assert await journal_rows(engine) == [(1, "LOST", "LOST")]


async def test_all_requests_of_an_owner_fold_into_one_usage(connect) -> None:
    async with FakeOpenAi({"colour": [Fault("status", 500), GOOD]}) as fake:
        model = connect(fake)
        with pytest.raises(errors.Unavailable):
            await model.session(scope()).ask(QUESTION, OPTIONS)
        await model.session(scope()).ask(QUESTION, OPTIONS)
        await model.session(scope(1)).ask(QUESTION, OPTIONS)
        usage = to_usage(await model.journal.owner_records(OWNER))
    assert (usage.request_count, usage.failed_request_count) == (3, 1)


async def test_a_database_that_is_away_is_unavailable_and_nothing_is_sent(connect, engine) -> None:
    async with FakeOpenAi({"colour": GOOD}) as fake:
        async with engine.begin() as connection:
            await connection.run_sync(llm_calls.drop)
        with pytest.raises(errors.Unavailable) as caught:
            await connect(fake).session(scope()).ask(QUESTION, OPTIONS)
        assert fake.count() == 0
    assert caught.value.reason == "BACKEND_UNAVAILABLE"
