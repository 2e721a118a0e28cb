"""Explanations from elsewhere, read from files.

Three shapes, told apart by what is in the file; any of them may be compressed with gzip:

- JSON Lines, or one JSON array: objects with `feature` or `index` (a number, or a name
  `saes/{sae}/features/{index}`), and `description` or `explanation`, or a `label`;
- CSV with a heading that names these columns;
- Neuronpedia's exports: lines or an array with `modelId`, `layer`, `index` and
  `description`, or features with a list `explanations` of these.

Nothing is guessed: a row without a feature or without a text is refused with its place.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saexplain.common.v1.explanation_pb2 import Explanation
from services.common.errors import InvalidArgument
from services.common.names import parse_feature

MAX_FILE_BYTES = 512 * 2**20
"""Largest file, uncompressed."""

_INDEX_KEYS = ("feature", "index")
_TEXT_KEYS = ("description", "explanation")


@dataclass(frozen=True)
class ImportedExplanation:
    """An explanation and whose it is.

    Attributes:
        sae: `saes/{sae}` where the file names it; empty where it gives bare indices.
        index: of the feature, >= 0.
        explanation: label, description or both; nothing else is set.
        origin: who wrote it, as far as the file says: model, method or both.
    """

    sae: str
    index: int
    explanation: Explanation
    origin: str = ""


def read_explanations(path: Path) -> list[ImportedExplanation]:
    """All explanations of a file, in its order, exact repeats left out.

    Raises:
        OSError: the file cannot be read.
        InvalidArgument: it is none of the three shapes, larger than `MAX_FILE_BYTES`, holds
            no explanation, or a row lacks a feature or a text; says where.
    """
    text = _text(path)
    rows = _json_rows(text) if text.lstrip()[:1] in ("{", "[") else _csv_rows(text)
    found: dict[tuple[str, int, bytes], ImportedExplanation] = {}
    for place, row in rows:
        for entry in _entries(row, place):
            key = entry.sae, entry.index, entry.explanation.SerializeToString()
            found.setdefault(key, entry)
    if not found:
        raise InvalidArgument("the file holds no explanation", "file")
    return list(found.values())


def _text(path: Path) -> str:
    raw = path.read_bytes()
    try:
        if raw[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=io.BytesIO(raw)) as unpacked:
                raw = unpacked.read(MAX_FILE_BYTES + 1)
        if len(raw) > MAX_FILE_BYTES:
            raise InvalidArgument(f"is larger than {MAX_FILE_BYTES} bytes", "file")
        return raw.decode("utf-8-sig")
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
        raise InvalidArgument(f"is no text: {type(error).__name__}", "file") from error


def _json_rows(text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Objects of an array, of lines, or the one object that the text is."""
    if text.lstrip().startswith("["):
        values = [(f"entry {n}", value) for n, value in enumerate(_json(text, "file"), 1)]
    else:
        lines = enumerate(text.split("\n"), 1)
        values = [(f"line {n}", _json(line, f"line {n}")) for n, line in lines if line.strip()]
    for place, value in values:
        if not isinstance(value, Mapping):
            raise InvalidArgument("is no JSON object", place)
        yield place, value


def _json(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InvalidArgument("is no JSON", place) from error


def _csv_rows(text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            place = f"line {reader.line_num}"
            if None in row:
                raise InvalidArgument("has more cells than the heading", place)
            yield place, {key.strip().lower(): value for key, value in row.items()}
    except csv.Error as error:
        raise InvalidArgument(f"is no CSV: {error}", f"line {reader.line_num}") from error


def _entries(row: Mapping[str, Any], place: str) -> Iterator[ImportedExplanation]:
    """The explanations of one row: its own, or those that a feature lists."""
    listed = row.get("explanations")
    if isinstance(listed, list):
        for number, inner in enumerate(listed, 1):
            if not isinstance(inner, Mapping):
                raise InvalidArgument("is no JSON object", f"{place}, explanation {number}")
            yield _entry({**row, **inner}, f"{place}, explanation {number}")
    else:
        yield _entry(row, place)


def _entry(row: Mapping[str, Any], place: str) -> ImportedExplanation:
    label = _string(row, ("label",), place)
    description = _string(row, _TEXT_KEYS, place)
    if not (label or description):
        raise InvalidArgument("has no `description`, `explanation` or `label`", place)
    sae, index = _feature(row, place)
    origin = [_string(row, (key,), place) for key in ("explanationModelName", "typeName")]
    return ImportedExplanation(
        sae=sae,
        index=index,
        explanation=Explanation(label=label, description=description),
        origin=" ".join(part for part in origin if part),
    )


def _string(row: Mapping[str, Any], keys: tuple[str, ...], place: str) -> str:
    """The first non-blank of some fields; empty where there is none."""
    for key in keys:
        value = row.get(key)
        if value is None or (isinstance(value, str) and not value.strip()):
            continue
        if not isinstance(value, str) or any("\ud800" <= c <= "\udfff" for c in value):
            raise InvalidArgument(f"`{key}` is no text", place)
        return value.strip()
    return ""


def _feature(row: Mapping[str, Any], place: str) -> tuple[str, int]:
    value = next((row[key] for key in _INDEX_KEYS if row.get(key) not in (None, "")), None)
    if isinstance(value, str) and value.strip().startswith("saes/"):
        ref = parse_feature(value.strip(), place)
        return ref.sae_name, ref.index
    text = value.strip() if isinstance(value, str) else value
    if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= 12:
        text = int(text)
    if isinstance(text, bool) or not isinstance(text, int) or text < 0:
        raise InvalidArgument("has no `feature` or `index` that names a feature", place)
    return "", text
