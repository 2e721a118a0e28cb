"""Settings of whatever asks a language model. Models are named by plans, not here."""

from __future__ import annotations

from pathlib import Path

from pydantic import AliasChoices, Field, SecretStr

from services.common.llm.admission import RatePolicy
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

    requests_per_minute: float | None = Field(
        None, gt=0, validation_alias=shared("LLM_REQUESTS_PER_MINUTE")
    )
    """Requests to one model of one endpoint, of all processes together. None: no limit."""

    tokens_per_minute: float | None = Field(
        None, gt=0, validation_alias=shared("LLM_TOKENS_PER_MINUTE")
    )
    """Likewise tokens of prompt and reply: a call's worst case, until it is answered."""

    failure_threshold: int = Field(
        5, ge=1, le=1000, validation_alias=shared("LLM_FAILURE_THRESHOLD")
    )
    """Failures in a row after which all processes stop asking for a while."""

    longest_pause_seconds: float = Field(
        300.0, gt=0, le=86_400, validation_alias=shared("LLM_LONGEST_PAUSE_SECONDS")
    )
    """Longest such while, also where the provider names a longer one."""

    ramp_seconds: float = Field(20.0, ge=0, le=3600, validation_alias=shared("LLM_RAMP_SECONDS"))
    """How long requests are held down after it: 2, 4, 8, … every 2 s."""

    patience_seconds: float = Field(
        20.0, ge=0, le=600, validation_alias=shared("LLM_PATIENCE_SECONDS")
    )
    """How long a call waits for its turn before it is refused with a delay."""

    @property
    def rate_policy(self) -> RatePolicy:
        """The limits towards providers."""
        return RatePolicy(
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
            failure_threshold=self.failure_threshold,
            longest_pause_seconds=self.longest_pause_seconds,
            ramp_seconds=self.ramp_seconds,
            probe_seconds=self.lease_seconds,
            patience_seconds=self.patience_seconds,
        )

    @property
    def configured(self) -> bool:
        """Whether there is a provider to ask and a journal to ask it through."""
        provider = self.api_key is not None or self.base_url is not None
        return provider and self.database_url is not None
