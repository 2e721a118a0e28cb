"""Reading a corpus: JSON lines, zstandard-compressed, one document a line."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import zstandard

from services.common.errors import FailedPrecondition, InvalidArgument


@dataclass(frozen=True)
class Document:
    """One document. ``source`` is the page, thread or book it belongs to: splits keep it whole."""

    id: str
    source: str
    kind: str
    text: str


@dataclass(frozen=True)
class Corpus:
    """All documents in file order, and the sha256 of the uncompressed lines."""

    documents: tuple[Document, ...]
    fingerprint: str


def read_corpus(path: Path) -> Corpus:
    """Read ``*.jsonl.zst``.

    Raises:
        FailedPrecondition: ARTIFACT_CORRUPT where there is no file.
        InvalidArgument: FIELD_INVALID, naming the line: broken JSON, a missing field, an empty
            text, or a document id that came before.
    """
    if not path.is_file():
        raise FailedPrecondition(f"there is no corpus at {path}", reason="ARTIFACT_CORRUPT")
    sha = hashlib.sha256()
    documents: list[Document] = []
    seen: set[str] = set()
    for number, line in enumerate(_lines(path), start=1):
        sha.update(line.encode())
        document = _parse(line, number)
        if document.id in seen:
            raise _invalid(number, f"document id {document.id!r} came before")
        seen.add(document.id)
        documents.append(document)
    if not documents:
        raise _invalid(1, "the corpus holds no document")
    return Corpus(tuple(documents), sha.hexdigest())


def _lines(path: Path) -> Iterator[str]:
    with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as raw:
        try:
            yield from io.TextIOWrapper(raw, encoding="utf-8", newline="\n")
        except (zstandard.ZstdError, UnicodeDecodeError) as error:
            raise InvalidArgument(f"{path}: {error}", field="corpus") from error


def _parse(line: str, number: int) -> Document:
    try:
        values = json.loads(line)
        document = Document(*(str(values[name]) for name in ("id", "source", "kind", "text")))
    except (ValueError, KeyError, TypeError) as error:
        raise _invalid(number, f"not a document: {error!r}") from error
    if not document.text:
        raise _invalid(number, "the text is empty")
    return document


def _invalid(number: int, problem: str) -> InvalidArgument:
    return InvalidArgument(f"line {number}: {problem}", field="corpus")
