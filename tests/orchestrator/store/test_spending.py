"""Guards what people are billed by: every call in one group of every split, lost and
unpriced ones named, another project's not in it."""

from __future__ import annotations

import itertools
from decimal import Decimal

from sqlalchemy import insert, update

from services.common.database import create_engine
from services.common.llm import budgets
from services.common.llm.journal import CallJournal
from services.common.llm.prices import Price
from services.common.llm.tables import llm_calls
from services.orchestrator.store.spending import SpendingStore
from services.orchestrator.store.tables import explanations
from tests.common.llm.callers import Provider, facts, key, ok

PRICE = Price(input=10, cached_input=1, output=100)
COST = Decimal("0.0015")
"""Of 50 tokens in and 10 out."""


async def _fill(engine) -> None:
    """3 calls of e1 (campaign c), 2 of e2, 1 of another project; one of e2's is LOST."""
    async with engine.begin() as connection:
        for number, name in enumerate(("e1", "e2")):
            row = insert(explanations).values(
                project="p",
                id=name,
                request_id=name,
                request_hash="",
                feature=f"features/{number}",
                sae="s",
                state=1,
                plan=b"",
                workflow_input={},
                create_time="2026-01-01T00:00:00Z",
                update_time="2026-01-01T00:00:00Z",
            )
            await connection.execute(row)
        await budgets.create_budget(
            connection,
            "projects/p/explanations/e1",
            max_token_count=None,
            campaign="projects/p/campaigns/c",
        )
    journal, provider = CallJournal(engine), Provider(ok)
    for owner, count, price in (("p/explanations/e1", 3, PRICE), ("p/explanations/e2", 2, None)):
        for number in range(count):
            one = key(number, f"projects/{owner}")
            worst = facts(cost=COST * 2 if price else None)
            await journal.call(one, worst, provider.sender(one), price)
    other = key(0, "projects/q/explanations/e1")
    await journal.call(other, facts(), provider.sender(other), PRICE)
    async with engine.begin() as connection:
        await connection.execute(
            update(llm_calls)
            .where(llm_calls.c.owner.endswith("/e2"), llm_calls.c.ordinal == 1)
            .values(state="LOST", outcome="LOST", prompt_token_count=0, completion_token_count=0)
        )


async def test_every_split_adds_up_to_the_project(database_url: str) -> None:
    engine = create_engine(database_url)
    await _fill(engine)
    store = SpendingStore(engine)
    (whole,) = await store.by([], project="p")
    assert (whole.request_count, whole.stored_count, whole.lost_count) == (5, 4, 1)
    assert (whole.prompt_token_count, whole.completion_token_count) == (200, 40)
    assert (whole.lost_token_count, whole.unpriced_count) == (100, 1)
    assert whole.costs == {"USD": 3 * COST}
    names = ("project", "campaign", "explanation", "feature", "step", "model")
    for split in itertools.chain(*(itertools.combinations(names, n) for n in (1, 2, 6))):
        parts = await store.by(split, project="p")
        assert sum(part.request_count for part in parts) == 5
        assert sum(part.costs.get("USD", 0) for part in parts) == 3 * COST
        assert len({part.group for part in parts}) == len(parts)
    assert await store.by(["step"], project="nobody") == []
    await engine.dispose()


async def test_groups_are_named_and_a_campaign_can_be_picked(database_url: str) -> None:
    engine = create_engine(database_url)
    await _fill(engine)
    store = SpendingStore(engine)
    parts = await store.by(["campaign", "feature"], project="p")
    assert [(part.group, part.request_count) for part in parts] == [
        (("", "features/1"), 2),
        (("c", "features/0"), 3),
    ]
    (picked,) = await store.by(["model"], project="p", campaign="c")
    assert (picked.group, picked.request_count) == (("m",), 3)
    await engine.dispose()
