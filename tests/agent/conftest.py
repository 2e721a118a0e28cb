"""A language model with a real journal, for a scripted provider."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from services.agent.explainers.sage.explainer import SageExplainer
from services.common.database import create_engine
from services.common.llm.session import LanguageModel
from tests.fakes import language_model
from tests.fakes.openai_server import FakeOpenAi


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """An engine of a fresh, migrated database."""
    engine = create_engine(database_url)
    yield engine
    await engine.dispose()


@pytest.fixture
async def sage(engine: AsyncEngine) -> AsyncIterator[Callable[[FakeOpenAi], SageExplainer]]:
    """Makes the LLM explainer for a scripted provider."""
    models: list[LanguageModel] = []

    def make(fake: FakeOpenAi) -> SageExplainer:
        models.append(language_model.connect(engine, fake.base_url))
        return SageExplainer(models[-1])

    yield make
    for model in models:
        await model.aclose()
