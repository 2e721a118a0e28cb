"""A language model of the real kind (client, journal, PostgreSQL) for a scripted provider."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.llm.client import ChatClient
from services.common.llm.journal import CallJournal
from services.common.llm.prices import PriceList
from services.common.llm.session import LanguageModel

NO_PRICES = PriceList(currency_code="USD", hosts={})


def connect(
    engine: AsyncEngine,
    base_url: str,
    *,
    lease_seconds: float = 60.0,
    timeout_seconds: float = 30.0,
    prices: PriceList = NO_PRICES,
) -> LanguageModel:
    """A language model as a process of its own would have it. The engine stays the caller's."""
    client = ChatClient("test", base_url, request_timeout_seconds=timeout_seconds)
    return LanguageModel(client, CallJournal(engine, lease_seconds=lease_seconds), prices)
