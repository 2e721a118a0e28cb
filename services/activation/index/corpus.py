"""Reading a corpus: JSON lines, one document a line."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fsspec
import zstandard

from services.common.errors import FailedPrecondition, InvalidArgument

_ZSTANDARD_MAGIC = b"\x28\xb5\x2f\xfd"


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


def read_corpus(location: str | Path, max_documents: int = 0) -> Corpus:
    """Read JSON lines, plain or compressed with zstandard.

    Args:
        location: Path, or a URL that fsspec understands.
        max_documents: Stop after so many; 0 for all. The fingerprint covers what was read.

    Raises:
        FailedPrecondition: ARTIFACT_CORRUPT where there is no file.
        InvalidArgument: FIELD_INVALID, naming the line: broken JSON, a missing field, an empty
            text, or a document id that came before.
    """
    sha = hashlib.sha256()
    documents: list[Document] = []
    seen: set[str] = set()
    for number, line in enumerate(_lines(str(location)), start=1):
        if max_documents and number > max_documents:
            break
        sha.update(line.encode())
        document = _parse(line, number)
        if document.id in seen:
            raise _invalid(number, f"document id {document.id!r} came before")
        seen.add(document.id)
        documents.append(document)
    if not documents:
        raise _invalid(1, "the corpus holds no document")
    return Corpus(tuple(documents), sha.hexdigest())


def _lines(location: str) -> Iterator[str]:
    try:
        with fsspec.open(location, "rb") as file:
            raw = file.read()
    except (OSError, ValueError, ImportError) as error:
        message = f"corpus {location} cannot be read: {error}"
        raise FailedPrecondition(message, reason="ARTIFACT_CORRUPT") from error
    try:
        if raw.startswith(_ZSTANDARD_MAGIC):
            with zstandard.ZstdDecompressor().stream_reader(raw) as reader:
                raw = reader.read()
        yield from io.StringIO(raw.decode(), newline="\n")
    except (zstandard.ZstdError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{location}: {error}", field="corpus") from error


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
