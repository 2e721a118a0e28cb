"""Settings that all servers share. Each service subclasses `ServerSettings` with its
own prefix; shared names have none of a service.

Read once in `__main__.py`, then passed down: nothing below reads the environment.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import platformdirs
from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict


def shared(name: str) -> AliasChoices:
    """The environment name of a setting that several services read alike."""
    return AliasChoices(f"SAEXPLAIN_{name}")


def default_cache_dir() -> Path:
    """Where converted models and unpacked indexes are kept unless a setting says else."""
    return Path(platformdirs.user_cache_dir("saexplain"))


class SaexplainSettings(BaseSettings):
    """Base of all settings: frozen, unknown names ignored, no secrets in the repr."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", populate_by_name=True, hide_input_in_errors=True
    )


class ServerSettings(SaexplainSettings):
    """What a gRPC server needs to know."""

    listen: str = "127.0.0.1:0"
    """Address to listen on, `host:port`; port 0 picks a free one."""

    max_message_bytes: int = Field(
        16 * 2**20, ge=2**16, le=2**30, validation_alias=shared("MAX_MESSAGE_BYTES")
    )
    """Largest message accepted or sent. Larger ones are RESOURCE_EXHAUSTED."""

    max_concurrent_rpcs: int = Field(
        256, ge=1, le=65_536, validation_alias=shared("MAX_CONCURRENT_RPCS")
    )
    """Calls in flight; more are RESOURCE_EXHAUSTED at once. Health checks always get through."""

    metrics_listen: str = ""
    """Address of the Prometheus endpoint, `host:port`; empty for none. Whoever reaches it sees
    counts and times, no content."""

    drain_seconds: float = Field(20.0, ge=0, le=3600, validation_alias=shared("DRAIN_SECONDS"))
    """How long calls in flight may go on after SIGTERM."""

    max_connection_age_seconds: float = Field(
        0.0, ge=0, le=86_400, validation_alias=shared("MAX_CONNECTION_AGE_SECONDS")
    )
    """After so long a client is asked to connect again, whereby it finds servers that were added;
    its calls in flight go on. 0 for never, right where there is one server."""

    log_format: Literal["json", "console"] = Field("json", validation_alias=shared("LOG_FORMAT"))
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", validation_alias=shared("LOG_LEVEL")
    )
