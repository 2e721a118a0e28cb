"""Documents as token ids on disk, and the table of documents: the streaming side of a plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.activation.encoder.tokenizer import TextTokenizer
from services.activation.index.corpora.documents import Document, invalid
from services.activation.index.layout import Documents, Ints
from services.common.errors import Cancelled

_BATCH_CHARACTERS = 200_000
_BATCH_DOCUMENTS = 256
TOKENS = "tokens.bin"


@dataclass(frozen=True)
class TokenFile:
    """Token ids of a corpus, mapped from disk, and where documents begin."""

    tokens: NDArray[np.int32]
    document_offsets: Ints


def tokenise(
    documents: Iterable[Document],
    tokenizer: TextTokenizer,
    folder: Path,
    cancelled: Callable[[], bool],
) -> tuple[TokenFile, Documents]:
    """Write the tokens of a corpus into ``folder``; holds one batch of texts at a time.

    Raises:
        InvalidArgument: FIELD_INVALID for a document id that came before.
        Cancelled: ``cancelled`` said so between two batches.
    """
    ids: list[str] = []
    sources: list[str] = []
    kinds: list[str] = []
    lengths: list[int] = []
    names: dict[str, str] = {}  # one object per source and kind, however many documents
    path = folder / TOKENS
    with path.open("wb") as file:
        for batch in _batches(documents):
            if cancelled():
                raise Cancelled("the index is no longer wanted")
            for document, row in zip(
                batch, tokenizer.content_ids([d.text for d in batch]), strict=True
            ):
                file.write(row.astype("<i4").tobytes())
                lengths.append(len(row))
                ids.append(document.id)
                source = names.setdefault(document.source, document.source)
                sources.append(source)
                kinds.append(names.setdefault(document.kind, document.kind))
    _check_unique(ids)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    tokens = map_tokens(path)
    return TokenFile(tokens, offsets), Documents(tuple(ids), tuple(sources), tuple(kinds))


def map_tokens(path: Path) -> NDArray[Any]:
    """Tokens that :func:`tokenise` wrote, int32, read-only."""
    if path.stat().st_size == 0:
        return np.empty(0, np.int32)
    return np.memmap(path, dtype="<i4", mode="r")


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += len(document.text)
        if characters >= _BATCH_CHARACTERS or len(batch) >= _BATCH_DOCUMENTS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _check_unique(ids: list[str]) -> None:
    hashes = np.fromiter((hash(name) for name in ids), np.int64, len(ids))
    if len(np.unique(hashes)) == len(ids):
        return
    seen: set[str] = set()
    for number, name in enumerate(ids, start=1):
        if name in seen:
            raise invalid(f"document {number}", f"id {name!r} came before")
        seen.add(name)
