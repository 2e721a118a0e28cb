"""The scripted provider as the services are told of it."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass


@dataclass(frozen=True)
class Provider:
    """A running provider.

    Attributes:
        base_url: with its `/v1`.
    """

    base_url: str

    @property
    def environment(self) -> dict[str, str]:
        """What makes a service talk to it."""
        return {
            "OPENAI_BASE_URL": self.base_url,
            "OPENAI_API_KEY": "test-key",
            "SAEXPLAIN_LLM_MODEL": "scripted",
            "SAEXPLAIN_LLM_LEASE_SECONDS": "5",
        }

    def call_count(self) -> int:
        """Requests that reached it."""
        url = self.base_url.removesuffix("/v1") + "/calls"
        with urllib.request.urlopen(url, timeout=10) as response:
            return sum(json.load(response).values())
