"""From a location to documents: one file, a folder of files, an object store, a dataset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from services.activation.index.corpora.datasets import SAVED, hub_dataset, saved_dataset
from services.activation.index.corpora.documents import (
    ColumnNames,
    Document,
    DocumentReader,
    RawRecord,
)
from services.activation.index.corpora.files import BY_SUFFIX, COMPRESSED_SUFFIXES, RecordsOf
from services.activation.index.corpora.locations import (
    DATASET_SCHEME,
    LocationPolicy,
    scheme_of,
)
from services.common.errors import FailedPrecondition, InvalidArgument

MAX_DOCUMENT_BYTES = 2**26


@dataclass(frozen=True)
class CorpusSpec:
    """Which corpus, and how to read it."""

    location: str
    """Path, URL that fsspec understands, or ``dataset:…``. A folder stands for all files in it
    whose format is known, in order of their paths."""
    max_documents: int = 0
    """Stop after so many; 0 for all. The fingerprint covers what was read."""
    columns: ColumnNames = field(default_factory=ColumnNames)


@dataclass(frozen=True)
class Corpus:
    """All documents in corpus order, held in memory: for small corpora."""

    documents: tuple[Document, ...]
    fingerprint: str

    def __iter__(self) -> Iterator[Document]:
        return iter(self.documents)


def open_corpus(
    spec: CorpusSpec, policy: LocationPolicy, max_document_bytes: int = MAX_DOCUMENT_BYTES
) -> DocumentReader:
    """Documents of a corpus, read as they are asked for.

    Raises:
        InvalidArgument: FIELD_INVALID where the location is not allowed.
        FailedPrecondition: ARTIFACT_CORRUPT where there is nothing to read; while iterating,
            also what :class:`DocumentReader` raises.
    """
    policy.check(spec.location)
    records = _records(spec.location, max_document_bytes)
    return DocumentReader(records, spec.columns, spec.max_documents)


def read_corpus(location: str | Path, max_documents: int = 0) -> Corpus:
    """A small corpus, whole, from a trusted location. Errors: as for :func:`open_corpus`."""
    location = str(location)
    policy = LocationPolicy(schemes=tuple({scheme_of(link) for link in location.split("::")}))
    reader = open_corpus(CorpusSpec(location, max_documents), policy)
    documents = tuple(reader)
    return Corpus(documents, reader.fingerprint)


def _records(location: str, max_bytes: int) -> Iterator[RawRecord]:
    if scheme_of(location) == DATASET_SCHEME:
        yield from hub_dataset(location)
        return
    try:
        filesystem, path = fsspec.core.url_to_fs(location)
        if not filesystem.isdir(path):
            with filesystem.open(path, "rb") as file:
                yield from _format_of(path)(file, PurePosixPath(path).name, max_bytes)
            return
        if filesystem.exists(f"{path}/{SAVED}") and scheme_of(location) == "file":
            yield from saved_dataset(Path(path))
            return
        for name in _files_below(filesystem, path):
            with filesystem.open(name, "rb") as file:
                relative = name.removeprefix(path).lstrip("/")
                yield from _format_of(name)(file, relative, max_bytes)
    except (OSError, ValueError, ImportError) as error:
        message = f"corpus {location} cannot be read: {error}"
        raise FailedPrecondition(message, reason="ARTIFACT_CORRUPT") from error


def _files_below(filesystem: Any, path: str) -> list[str]:
    names = sorted(name for name in filesystem.find(path) if _suffix(name) in BY_SUFFIX)
    if not names:
        message = f"{path} holds no file that ends in {', '.join(BY_SUFFIX)}"
        raise InvalidArgument(message, field="corpus")
    return names


def _format_of(name: str) -> RecordsOf:
    suffix = _suffix(name)
    if suffix not in BY_SUFFIX:
        message = f"a file must end in one of {', '.join(BY_SUFFIX)}, not {suffix!r}"
        raise InvalidArgument(message, field="corpus")
    return BY_SUFFIX[suffix]


def _suffix(name: str) -> str:
    path = PurePosixPath(name)
    if path.suffix in COMPRESSED_SUFFIXES:
        path = path.with_suffix("")
    return path.suffix.lower()


__all__ = ["Corpus", "CorpusSpec", "Document", "open_corpus", "read_corpus"]
