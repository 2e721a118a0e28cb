"""A process that asks one question, so that a test can kill it in the middle.

python -m tests.common.llm.one_call DATABASE_URL BASE_URL LEASE_SECONDS
"""

from __future__ import annotations

import asyncio
import sys

from services.common.llm.session import open_language_model, require_language_model
from services.common.llm.settings import LlmSettings
from tests.common.llm.conftest import OPTIONS, QUESTION, scope


async def main(database_url: str, base_url: str, lease_seconds: str) -> None:
    """Asks and prints the reply."""
    settings = LlmSettings(
        api_key="test",
        base_url=base_url,
        database_url=database_url,
        lease_seconds=float(lease_seconds),
    )
    model = require_language_model(open_language_model(settings))
    answer = await model.session(scope()).ask(QUESTION, OPTIONS)
    print(answer.value().model_dump_json())  # noqa: T201 (read by the test)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
