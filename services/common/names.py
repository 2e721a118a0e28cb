"""Resource names, strictly parsed: a wrong name is refused, never guessed at."""

from __future__ import annotations

import re
from dataclasses import dataclass

from services.common.errors import InvalidArgument

_ID = r"[a-z0-9][a-z0-9._-]{0,62}"
_SAE = re.compile(rf"saes/({_ID})")
_FEATURE = re.compile(rf"saes/({_ID})/features/(0|[1-9][0-9]{{0,8}})")
_PROJECT = re.compile(rf"projects/({_ID})")
_EXPLANATION = re.compile(rf"(projects/{_ID})/explanations/({_ID})")
_INDEX = re.compile(rf"(projects/{_ID})/indexes/({_ID})")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True)
class FeatureRef:
    """One latent of one SAE.

    Attributes:
        sae: id of the SAE, the part behind `saes/`.
        index: >= 0; whether it is below `d_sae` is the SAE's to say.
    """

    sae: str
    index: int

    @property
    def name(self) -> str:
        """`saes/{sae}/features/{index}`."""
        return f"saes/{self.sae}/features/{self.index}"

    @property
    def sae_name(self) -> str:
        """`saes/{sae}`."""
        return f"saes/{self.sae}"


def _match(pattern: re.Pattern[str], name: str, field: str, form: str) -> re.Match[str]:
    match = pattern.fullmatch(name)
    if match is None:
        raise InvalidArgument(f"{name[:80]!r} is not of the form {form}", field)
    return match


def parse_feature(name: str, field: str = "name") -> FeatureRef:
    """Parses `saes/{sae}/features/{index}`."""
    match = _match(_FEATURE, name, field, "saes/{sae}/features/{index}")
    return FeatureRef(match[1], int(match[2]))


def parse_sae(name: str, field: str = "name") -> str:
    """The id in `saes/{sae}`."""
    return _match(_SAE, name, field, "saes/{sae}")[1]


def sae_name(sae: str) -> str:
    """`saes/{sae}`."""
    return f"saes/{sae}"


def parse_project(name: str, field: str = "parent") -> str:
    """The id in `projects/{project}`."""
    return _match(_PROJECT, name, field, "projects/{project}")[1]


def parse_explanation(name: str, field: str = "name") -> tuple[str, str]:
    """`projects/{project}` and the id in `projects/{project}/explanations/{id}`."""
    match = _match(_EXPLANATION, name, field, "projects/{project}/explanations/{explanation}")
    return match[1], match[2]


def explanation_name(project: str, explanation: str) -> str:
    """Name of an explanation of `projects/{project}`."""
    return f"{project}/explanations/{explanation}"


def parse_index(name: str, field: str = "index") -> tuple[str, str]:
    """`projects/{project}` and the id in `projects/{project}/indexes/{id}`."""
    match = _match(_INDEX, name, field, "projects/{project}/indexes/{index}")
    return match[1], match[2]


def index_id(key: str) -> str:
    """The id of the index with this key: its first 16 hex digits."""
    return key[:16]


def index_name(project: str, key_or_id: str) -> str:
    """Name in `projects/{project}` of the index with this key or id."""
    return f"{project}/indexes/{index_id(key_or_id)}"


def check_request_id(request_id: str, field: str = "request_id") -> str:
    """Returns the id if it is 1 to 64 characters of `[A-Za-z0-9._-]`."""
    return _match(_REQUEST_ID, request_id, field, "[A-Za-z0-9._-]{1,64}")[0]
