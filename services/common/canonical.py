"""One way of writing a message as bytes, so that equal content has equal digests.

Protobuf's own serialization is not canonical across versions; JSON with sorted keys,
no spaces and proto field names is. Floats are written by `json`, which gives the
shortest text that reads back as the same double.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message


def canonical_json_of(value: Any) -> bytes:
    """Canonical JSON of plain values. NaN and infinities are refused (ValueError)."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode("utf-8")


def canonical_json(message: Message) -> bytes:
    """Canonical JSON of a message: proto field names, default values left out."""
    return canonical_json_of(MessageToDict(message, preserving_proto_field_name=True))


def digest_of(value: Any) -> str:
    """SHA-256 (hex) over `canonical_json_of(value)`."""
    return hashlib.sha256(canonical_json_of(value)).hexdigest()


def digest(message: Message) -> str:
    """SHA-256 (hex) over `canonical_json(message)`."""
    return hashlib.sha256(canonical_json(message)).hexdigest()
