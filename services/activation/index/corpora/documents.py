"""What a document is, and how a record of any format becomes one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from services.common.errors import InvalidArgument

COLUMNS = ("id", "source", "kind", "text")


@dataclass(frozen=True)
class Document:
    """One document. ``source`` is the page, thread or book it belongs to: splits keep it whole."""

    id: str
    source: str
    kind: str
    text: str


@dataclass(frozen=True)
class ColumnNames:
    """Where a record keeps what a document needs. Empty: the column's usual name, which may be
    missing for all but the text (then: the record's place, the id, ``text``)."""

    id: str = ""
    source: str = ""
    kind: str = ""
    text: str = ""

    def of(self, column: str) -> str:
        """The name to look for."""
        named: str = getattr(self, column)
        return named or column


@dataclass(frozen=True)
class RawRecord:
    """One record as a format gives it."""

    place: str
    """Names it in errors, and is its id where it has none: file and line or row."""
    values: Mapping[str, Any]
    raw: bytes | None = None
    """Its bytes in the file where the format has them; otherwise the document's own are
    fingerprinted."""


@dataclass
class DocumentReader:
    """Checks records and turns them into documents, one pass, counting and fingerprinting.

    Columns that the first record has are needed in all of them.

    Args:
        records: Records in corpus order.
        names: Where they keep what is needed.
        max_documents: Stop after so many; 0 for all.
    """

    records: Iterator[RawRecord]
    names: ColumnNames = field(default_factory=ColumnNames)
    max_documents: int = 0
    count: int = 0
    _sha: Any = field(default_factory=hashlib.sha256)
    _columns: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Document]:
        """Documents in corpus order.

        Raises:
            InvalidArgument: FIELD_INVALID, naming the record, for a missing column, an empty
                text, a value that is no text, or text that is not UTF-8; also where there is no
                document at all.
        """
        if self.names != ColumnNames():
            self._sha.update(repr(self.names).encode())
        for record in self.records:
            if self.max_documents and self.count >= self.max_documents:
                break
            document = self._document(record)
            self._sha.update(record.raw if record.raw is not None else _bytes_of(document))
            self.count += 1
            yield document
        if self.count == 0:
            raise invalid("the corpus", "holds no document")

    @property
    def fingerprint(self) -> str:
        """sha256 of what was read so far."""
        return str(self._sha.hexdigest())

    def _document(self, record: RawRecord) -> Document:
        if not self._columns:
            present = tuple(name for name in COLUMNS if self.names.of(name) in record.values)
            named = tuple(name for name in COLUMNS if getattr(self.names, name))
            self._columns = tuple(dict.fromkeys((*present, *named, "text")))
        identity = self._value(record, "id", record.place)
        source = self._value(record, "source", identity)
        text = self._value(record, "text", "")
        if not text:
            raise invalid(record.place, "the text is empty")
        return Document(identity, source, self._value(record, "kind", "text"), text)

    def _value(self, record: RawRecord, column: str, missing: str) -> str:
        if column not in self._columns:
            return missing
        name = self.names.of(column)
        if name not in record.values:
            raise invalid(record.place, f"there is no column {name!r}")
        value = record.values[name]
        if column != "text" and isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            kind = "nothing" if value is None else f"{value!r:.40}, not text"
            raise invalid(record.place, f"column {name!r} holds {kind}")
        if not value.isascii():
            _check_unicode(record.place, name, value)
        return value


def invalid(place: str, problem: str) -> InvalidArgument:
    """FIELD_INVALID for something in the corpus."""
    return InvalidArgument(f"{place}: {problem}", field="corpus")


def _check_unicode(place: str, name: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        problem = f"column {name!r}: character {error.start} is half of a surrogate pair"
        raise invalid(place, problem) from error


def _bytes_of(document: Document) -> bytes:
    parts = [part.encode() for part in (document.id, document.source, document.kind, document.text)]
    return b"".join(len(part).to_bytes(8, "little") + part for part in parts)
