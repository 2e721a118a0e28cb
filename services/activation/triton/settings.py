"""Settings of the process that runs Triton."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.settings import SaexplainSettings


class TritonSettings(SaexplainSettings):
    """Read by ``python -m services.activation.triton``, beside what the activation service reads:
    registry, cache, device and limits have to be the same in both."""

    model_config = SettingsConfigDict(env_prefix="SAEXPLAIN_TRITON_")

    listen: str = "127.0.0.1:8001"
    """Address of the gRPC endpoint, ``host:port``. Whoever reaches it can compute."""

    metrics_port: int | None = Field(None, ge=1, le=65_535)
    """Port of the Prometheus metrics on the same host; none by default."""

    repository: Path | None = None
    """Folder of the model repository, rewritten at every start; a temporary one by default."""

    @property
    def host_and_port(self) -> tuple[str, int]:
        """``listen``, taken apart."""
        host, _, port = self.listen.rpartition(":")
        return host, int(port)
