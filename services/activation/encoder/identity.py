"""What identifies a value's origin, and canonical JSON to derive keys from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Fingerprints:
    """What was loaded; equal fingerprints mean equal values within the tolerance."""

    model: str
    sae: str
    tokenizer: str

    def as_dict(self) -> dict[str, str]:
        """Plain mapping, for keys and manifests."""
        return asdict(self)


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys, no spaces, ASCII only: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def digest(value: Any) -> str:
    """sha256 of a JSON value's canonical form."""
    return hashlib.sha256(canonical_json(value)).hexdigest()
