"""Numbers, names and times as the report writes them."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

MISSING = "–"
"""Stands for a value that is not there; never a number."""


def number(value: float | None, digits: int = 2) -> str:
    """Fixed digits, a true minus sign, and `–` for what is absent."""
    if value is None:
        return MISSING
    text = f"{value:.{digits}f}"
    return text.replace("-", "−") if float(text) != 0 else text.lstrip("-")


def significant(value: float | None) -> str:
    """Three significant digits, for quantities of unknown size."""
    return MISSING if value is None else f"{value:.3g}".replace("-", "−")


def percent(value: float | None) -> str:
    """A share in percent with a digit more where it is small."""
    if value is None:
        return MISSING
    return f"{value * 100:.{1 if value >= 0.001 or value == 0 else 3}f} %"


def count(value: int) -> str:
    """With thin spaces between thousands."""
    return f"{value:,}".replace(",", "\u202f")


def enum_name(message: Message, field: str) -> str:
    """The value of an enum field in words: `HYPOTHESIS_STATUS_OPEN` is `open`."""
    descriptor = message.DESCRIPTOR.fields_by_name[field].enum_type
    if descriptor is None:
        raise ValueError(f"{field} of {message.DESCRIPTOR.full_name} is no enum")
    value = getattr(message, field)
    known = descriptor.values_by_number.get(value)
    if known is None:
        return f"unknown ({value})"
    prefix = descriptor.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return known.name.removeprefix(prefix).lower().replace("_", " ")


def optional(message: Message, field: str) -> float | None:
    """The value of an optional field; None where it is absent."""
    return getattr(message, field) if message.HasField(field) else None


def moment(timestamp: Timestamp) -> str:
    """Date and time in UTC; `–` where it was never set."""
    if timestamp.seconds == 0:
        return MISSING
    return datetime.fromtimestamp(timestamp.seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def duration(begin: Timestamp, end: Timestamp) -> str:
    """Seconds between two times; `–` where one of them was never set."""
    if not begin.seconds or not end.seconds:
        return MISSING
    return f"{(end.ToNanoseconds() - begin.ToNanoseconds()) / 1e9:.1f} s"
