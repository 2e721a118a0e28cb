"""`python -m services.scorer`: serves until SIGTERM."""

from __future__ import annotations

import asyncio

from services.common.grpc_server import run_server
from services.common.llm.embeddings import open_embedding_model
from services.common.llm.session import open_language_model
from services.common.llm.settings import LlmSettings
from services.common.logging import configure_logging
from services.scorer.server import SERVICE, registering
from services.scorer.settings import ScorerSettings


async def serve(settings: ScorerSettings, llm: LlmSettings) -> None:
    """Serves, then waits for calls to the language model that are still in flight."""
    model = open_language_model(llm)
    key = settings.embedding_api_key
    embeddings = open_embedding_model(
        llm,
        settings.embedding_model,
        api_key=key.get_secret_value() if key else None,
        base_url=settings.embedding_base_url,
    )
    try:
        await run_server(settings, registering(settings, model, embeddings), [SERVICE])
    finally:
        for opened in (model, embeddings):
            if opened is not None:
                await opened.aclose()


def main() -> None:
    """Reads the settings once and serves."""
    settings = ScorerSettings()
    configure_logging(settings.log_format, settings.log_level, "scorer")
    asyncio.run(serve(settings, LlmSettings()))


if __name__ == "__main__":
    main()
