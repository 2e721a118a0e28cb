"""Which features a comparison is over: named, read from a file, or drawn by seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from saexplain.common.v1.feature_pb2 import FeatureFacts, FeatureStratum
from saexplain_client import AsyncSaexplainClient
from services.cli.report.formats import enum_name
from services.common.errors import FailedPrecondition, InvalidArgument

_OPTION = "--features"
_LARGEST_INDEX = 10**9


@dataclass(frozen=True)
class Population:
    """The features of an index.

    Attributes:
        strata: stratum in words by index of the feature.
    """

    strata: dict[int, str]

    @property
    def funnel(self) -> dict[str, int]:
        """Features by stratum."""
        return dict(Counter(self.strata.values()))


async def population(client: AsyncSaexplainClient, sae: str, index: str) -> Population:
    """All features of a SAE with their strata."""
    strata = {}
    async for facts in client.list_features(sae, index=index):
        strata[_index_of(facts)] = enum_name(facts, "stratum")
    return Population(strata)


def parse_features(text: str, most: int) -> list[int]:
    """Indices of a list such as `3,17,20-29`, or of a file: `@path`, separated by commas or
    white space. Repeats are left out.

    Raises:
        InvalidArgument: no index, a wrong one, a range that falls, more than `most`, or a file
            that cannot be read.
    """
    if text.startswith("@"):
        text = _file(Path(text[1:]))
    found: dict[int, None] = {}
    for item in text.replace(",", " ").split():
        low, dash, high = item.partition("-")
        first, last = _number(low, item), _number(high if dash else low, item)
        if last < first:
            raise InvalidArgument(f"{item!r} falls", _OPTION)
        if len(found) + last - first + 1 > most + len(found.keys() & range(first, last + 1)):
            raise InvalidArgument(f"at most {most} features", _OPTION)
        found |= dict.fromkeys(range(first, last + 1))
    if not found:
        raise InvalidArgument("names no feature", _OPTION)
    return list(found)


def draw(found: Population, stratum: str, count: int, seed: int) -> list[int]:
    """So many features of a stratum, by seed, in rising order.

    Raises:
        InvalidArgument: no such stratum.
        FailedPrecondition: it has fewer features.
    """
    known = stratum_names()
    wanted = stratum.replace("-", " ").replace("_", " ").lower()
    if wanted not in known:
        raise InvalidArgument(f"{stratum!r} is none of {', '.join(known)}", "--stratum")
    members = sorted(i for i, name in found.strata.items() if name == wanted)
    if len(members) < count:
        raise FailedPrecondition(f"only {len(members)} features are {wanted}")
    return sorted(random.Random(seed).sample(members, count))


def stratum_names() -> Sequence[str]:
    """The strata in words."""
    names = FeatureStratum.keys()[1:]
    return [n.removeprefix("FEATURE_STRATUM_").lower().replace("_", " ") for n in names]


def _file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{path} cannot be read: {type(error).__name__}", _OPTION) from error


def _number(text: str, item: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > _LARGEST_INDEX:
        raise InvalidArgument(f"{item[:40]!r} is no index or range", _OPTION)
    return int(text)


def _index_of(facts: FeatureFacts) -> int:
    return int(facts.feature.rpartition("/")[2])
