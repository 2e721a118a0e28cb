"""Settings of whatever asks a language model. Models are named by plans, not here."""

from __future__ import annotations

from pathlib import Path

from pydantic import AliasChoices, Field, SecretStr

from services.common.settings import SaexplainSettings, shared


class LlmSettings(SaexplainSettings):
    """Where the provider is, who we are to it, and what we allow ourselves."""

    api_key: SecretStr | None = Field(None, validation_alias=AliasChoices("OPENAI_API_KEY"))
    """The provider's key. Local servers often want none."""

    base_url: str | None = Field(None, validation_alias=AliasChoices("OPENAI_BASE_URL"))
    """Any OpenAI-compatible endpoint, with its `/v1`. None: OpenAI's own."""

    database_url: SecretStr | None = Field(None, validation_alias=shared("DATABASE_URL"))
    """The database that holds the call journal. Without a journal no call is made."""

    request_timeout_seconds: float = Field(
        300.0, gt=0, le=3600, validation_alias=shared("LLM_REQUEST_TIMEOUT_SECONDS")
    )
    """How long one request may take before it counts as failed."""

    max_concurrent_calls: int = Field(
        16, ge=1, le=1024, validation_alias=shared("LLM_MAX_CONCURRENT_CALLS")
    )
    """Requests in flight from this process; more wait their turn."""

    lease_seconds: float = Field(60.0, gt=0, le=3600, validation_alias=shared("LLM_LEASE_SECONDS"))
    """A call whose process has not been heard of for so long is LOST and may be repeated."""

    prices_file: Path | None = Field(None, validation_alias=shared("LLM_PRICES_FILE"))
    """Price list to use instead of the one that ships, in the same format."""

    @property
    def configured(self) -> bool:
        """Whether there is a provider to ask and a journal to ask it through."""
        provider = self.api_key is not None or self.base_url is not None
        return provider and self.database_url is not None
