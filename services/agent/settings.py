"""Settings of the agent service."""

from __future__ import annotations

from pydantic_settings import SettingsConfigDict

from services.common.settings import ServerSettings


class AgentSettings(ServerSettings):
    """The server's own settings; those of the language model are `LlmSettings`."""

    model_config = SettingsConfigDict(env_prefix="SAEXPLAIN_AGENT_")

    listen: str = "127.0.0.1:7203"
    """Address to listen on, `host:port`."""
