"""What tokens cost. An unknown price is no price: it is never 0."""

from __future__ import annotations

import re
from decimal import Decimal
from importlib import resources
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field

from services.common.llm.calls import TokenCounts

_SNAPSHOT = re.compile(r"-20[0-9]{2}-[01][0-9]-[0-3][0-9]$")
_MILLION = Decimal(1_000_000)


class Price(BaseModel):
    """Price of a model per million tokens, in the currency of its list."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Decimal = Field(ge=0)
    cached_input: Decimal = Field(ge=0)
    output: Decimal = Field(ge=0)

    def cost(self, tokens: TokenCounts) -> Decimal:
        """What a call cost. Reasoning is charged as output."""
        cached = min(tokens.cached_prompt, tokens.prompt)
        total = (
            self.input * (tokens.prompt - cached)
            + self.cached_input * cached
            + self.output * tokens.completion
        )
        return total / _MILLION


class PriceList(BaseModel):
    """Prices by host of the endpoint and name of the model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    currency_code: str = Field(pattern=r"^[A-Z]{3}$")
    hosts: dict[str, dict[str, Price]]

    def find(self, host: str, model: str) -> Price | None:
        """The price of a model, a dated snapshot of it included; None if unknown."""
        models = self.hosts.get(host, {})
        return models.get(model) or models.get(_SNAPSHOT.sub("", model))


def load_prices(path: Path | None = None) -> PriceList:
    """Reads a price list, by default the one that ships.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no price list.
    """
    source = path or resources.files(__package__).joinpath("prices.yaml")
    try:
        return PriceList.model_validate(yaml.safe_load(source.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise ValueError(f"{source} is not YAML") from error
