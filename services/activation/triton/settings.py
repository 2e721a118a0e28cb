"""Settings of the process that runs Triton."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.settings import SaexplainSettings, default_cache_dir, shared


class TritonSettings(SaexplainSettings):
    """Read by ``python -m services.activation.triton``."""

    model_config = SettingsConfigDict(env_prefix="SAEXPLAIN_TRITON_")

    listen: str = "127.0.0.1:7207"
    """Address of the gRPC endpoint, ``host:port``. Whoever reaches it can compute."""

    metrics_port: int | None = Field(None, ge=1, le=65_535)
    """Port of the Prometheus metrics on the same host; none by default."""

    repository: Path | None = None
    """Folder of the model repository, rewritten at every start; a temporary one by default."""

    registry: Path = Field(
        Path(__file__).parents[1] / "registry.yaml", validation_alias=shared("REGISTRY")
    )
    """The registry of the activation service."""

    cache_dir: Path = Field(default_factory=default_cache_dir, validation_alias=shared("CACHE_DIR"))
    """Holds the laid out server and converted models."""

    device: str = Field("cpu", validation_alias=shared("ACTIVATION_DEVICE"))
    """Torch device of the models; the front has to name the same."""

    log_format: Literal["json", "console"] = Field("json", validation_alias=shared("LOG_FORMAT"))
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", validation_alias=shared("LOG_LEVEL")
    )

    @property
    def host_and_port(self) -> tuple[str, int]:
        """``listen``, taken apart."""
        host, _, port = self.listen.rpartition(":")
        return host, int(port)
