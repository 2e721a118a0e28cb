"""A journal in a real PostgreSQL and a client of a scripted provider over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from saexplain.common.v1.usage_pb2 import JournalScope, LlmOptions
from services.common.database import create_engine
from services.common.llm.calls import ChatMessage
from services.common.llm.prices import Price, PriceList
from services.common.llm.replies import ReplyModel
from services.common.llm.session import LanguageModel, Question
from services.common.llm.tables import llm_calls
from tests.fakes import language_model
from tests.fakes.openai_server import FakeOpenAi

OWNER = "projects/default/explanations/e1"
PRICES = PriceList(
    currency_code="USD",
    hosts={"127.0.0.1": {"priced": Price(input=10, cached_input=1, output=100)}},
)


class Colour(ReplyModel):
    """The reply that these tests ask for."""

    name: str
    share: float


QUESTION = Question("colour", Colour, (ChatMessage("user", "Which colour?"),), "f" * 64)
GOOD = {"name": "red", "share": 0.5}
OPTIONS = LlmOptions(model="plain", max_output_token_count=64)


def scope(ordinal: int = 0) -> JournalScope:
    """The scope of a step of the run under test."""
    return JournalScope(owner=OWNER, step="step", round=1, ordinal=ordinal)


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """An engine of a fresh, migrated database."""
    engine = create_engine(database_url)
    yield engine
    await engine.dispose()


@pytest.fixture
async def connect(engine: AsyncEngine) -> AsyncIterator[Callable[..., LanguageModel]]:
    """Makes a language model, as a process of its own would, for a scripted provider."""
    models: list[LanguageModel] = []

    def make(
        fake: FakeOpenAi, *, lease_seconds: float = 60.0, timeout_seconds: float = 30.0
    ) -> LanguageModel:
        models.append(
            language_model.connect(
                engine,
                fake.base_url,
                lease_seconds=lease_seconds,
                timeout_seconds=timeout_seconds,
                prices=PRICES,
            )
        )
        return models[-1]

    yield make
    for model in models:
        await model.aclose()


async def journal_rows(engine: AsyncEngine) -> list[tuple[int, str, str | None]]:
    """(attempt, state, outcome) of every row, oldest first."""
    query = select(llm_calls.c.attempt, llm_calls.c.state, llm_calls.c.outcome)
    async with engine.connect() as connection:
        return [tuple(row) for row in await connection.execute(query.order_by(llm_calls.c.id))]
