"""Settings of the scorer service. Those of the language model are `LlmSettings`."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from services.common.settings import ServerSettings


class ScorerSettings(ServerSettings):
    """Read from `SAEXPLAIN_SCORER_*`; fields with an alias are shared with other services."""

    model_config = SettingsConfigDict(env_prefix="SAEXPLAIN_SCORER_")

    listen: str = "127.0.0.1:7204"
    """Address to listen on, `host:port`."""

    max_judge_items: int = Field(64, ge=1, le=4096)
    """Items of one `Judge` call; more are TOO_MANY_ITEMS."""

    embedding_model: str = ""
    """The provider's name of the embedding model. Empty: the methods that embed are not
    offered."""

    embedding_base_url: str | None = None
    """Endpoint of the embeddings, with its `/v1`. None: the language model's."""

    embedding_api_key: SecretStr | None = None
    """Key to it. None: the language model's, or none where there is a URL of its own."""

    max_windows: int = Field(10_000, ge=1, le=100_000)
    """Windows of one `PlanScore` or `Score` call; more are TOO_MANY_ITEMS."""
