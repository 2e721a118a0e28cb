"""Starts the agent service: `python -m services.agent`."""

from __future__ import annotations

import asyncio

from services.agent.server import SERVICE, explainers, registering
from services.agent.settings import AgentSettings
from services.common.grpc_server import run_server
from services.common.llm.session import open_language_model
from services.common.llm.settings import LlmSettings
from services.common.logging import configure_logging


async def serve(settings: AgentSettings, llm: LlmSettings) -> None:
    """Serves until told to stop; calls in flight to the provider are waited for
    as long as RPCs are."""
    model = open_language_model(llm)
    try:
        await run_server(settings, registering(explainers(model)), [SERVICE])
    finally:
        if model is not None:
            await model.aclose(settings.drain_seconds)


def main() -> None:
    """Reads the settings and serves."""
    settings = AgentSettings()
    configure_logging(settings.log_format, settings.log_level, "agent")
    asyncio.run(serve(settings, LlmSettings()))


if __name__ == "__main__":
    main()
