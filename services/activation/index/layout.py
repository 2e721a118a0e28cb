"""A corpus as flat arrays: tokens, documents, the contexts the model reads, the windows it scores.

A document is cut into contexts of ``context_token_count - 1`` tokens; the first token is put in
front when a context is encoded. Windows tile a context. Both follow from the documents' lengths,
so an artifact stores neither. A plan under way keeps them in files (about one byte per token, and
four of the token itself) and maps these; in memory are some 300 bytes per document.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.activation.index.config import IndexConfig

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Documents:
    """The document table; index in these tuples is the document's number."""

    ids: tuple[str, ...]
    sources: tuple[str, ...]
    kinds: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready mapping."""
        return {"ids": self.ids, "sources": self.sources, "kinds": self.kinds}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Documents:
        """Inverse of :meth:`as_dict`."""
        return Documents(*(tuple(values[name]) for name in ("ids", "sources", "kinds")))


@dataclass(frozen=True)
class Layout:
    """Where everything lies in the flat token array. Contexts without a window are left out."""

    tokens: NDArray[Any]
    """Whole numbers: all documents' token ids one after the other, first tokens not included."""
    document_offsets: Ints
    """[documents + 1] bounds in ``tokens``."""
    context_document: Ints
    """[contexts] document of each context."""
    context_start: Ints
    """[contexts] offset of its first token in ``tokens``."""
    context_length: Ints
    """[contexts] tokens, without the first token that is put in front."""
    context_window_offsets: Ints
    """[contexts + 1] bounds of its windows."""
    window_context: Ints
    """[windows] context of each window."""
    window_start: Ints
    """[windows] offset of its first token in ``tokens``."""
    window_length: Ints
    """[windows] tokens."""

    def documents_of(self, contexts: Ints) -> Ints:
        """Document of each of some contexts."""
        documents: Ints = self.context_document[contexts]
        return documents

    @property
    def window_document(self) -> Ints:
        """[windows] document of each window."""
        documents: Ints = self.context_document[self.window_context]
        return documents

    @property
    def context_count(self) -> int:
        """Contexts that get encoded."""
        return len(self.context_document)

    @property
    def window_count(self) -> int:
        """Windows, whatever their split."""
        return len(self.window_context)


def lay_out(tokens: NDArray[Any], document_offsets: Ints, config: IndexConfig) -> Layout:
    """Cut documents into contexts and windows."""
    step = config.context_token_count - 1
    lengths = np.diff(document_offsets)
    per_document = -(-lengths // step)
    context_document = np.repeat(np.arange(len(lengths)), per_document)
    within = np.arange(len(context_document)) - np.repeat(
        np.cumsum(per_document) - per_document, per_document
    )
    context_start = document_offsets[:-1][context_document] + within * step
    context_length = np.minimum(step, document_offsets[1:][context_document] - context_start)
    skipped = config.skipped_token_count
    window_counts = _window_counts(np.maximum(0, context_length - skipped), config)
    kept = window_counts > 0
    context_document, context_start = context_document[kept], context_start[kept]
    context_length, window_counts = context_length[kept], window_counts[kept]

    offsets = np.concatenate([[0], np.cumsum(window_counts)]).astype(np.int64)
    window_context = np.repeat(np.arange(len(context_start)), window_counts)
    tile = np.arange(len(window_context)) - offsets[:-1][window_context]
    inside = skipped + tile * config.window_token_count
    return Layout(
        tokens=tokens,
        document_offsets=document_offsets.astype(np.int64),
        context_document=context_document,
        context_start=context_start,
        context_length=context_length,
        context_window_offsets=offsets,
        window_context=window_context,
        window_start=context_start[window_context] + inside,
        window_length=np.minimum(
            config.window_token_count, context_length[window_context] - inside
        ),
    )


_COLUMNS = (
    *("context_document", "context_start", "context_length", "context_window_offsets"),
    *("window_context", "window_start", "window_length"),
)
_BLOCK_DOCUMENTS = 4_096


def lay_out_on_disk(
    tokens: NDArray[Any], document_offsets: Ints, config: IndexConfig, folder: Path
) -> Layout:
    """:func:`lay_out` with its arrays in files of ``folder``, made block by block and mapped."""
    contexts = windows = 0
    with ExitStack() as stack:
        files = {
            name: stack.enter_context((folder / f"{name}.bin").open("wb")) for name in _COLUMNS
        }
        files["context_window_offsets"].write(np.zeros(1, np.int64).tobytes())
        for first in range(0, len(document_offsets) - 1, _BLOCK_DOCUMENTS):
            part = lay_out(tokens, document_offsets[first : first + _BLOCK_DOCUMENTS + 1], config)
            shifted = {
                "context_document": part.context_document + first,
                "context_window_offsets": part.context_window_offsets[1:] + windows,
                "window_context": part.window_context + contexts,
            }
            for name, file in files.items():
                file.write(shifted.get(name, getattr(part, name)).astype(np.int64).tobytes())
            contexts, windows = contexts + part.context_count, windows + part.window_count
    return map_layout(tokens, document_offsets, folder)


def map_layout(tokens: NDArray[Any], document_offsets: Ints, folder: Path) -> Layout:
    """Map what :func:`lay_out_on_disk` left in ``folder``."""
    columns: dict[str, Any] = {}
    for name in _COLUMNS:
        path = folder / f"{name}.bin"
        empty = path.stat().st_size == 0
        columns[name] = np.empty(0, np.int64) if empty else np.memmap(path, np.int64, "r")
    return Layout(tokens=tokens, document_offsets=document_offsets, **columns)


def _window_counts(context_length: Ints, config: IndexConfig) -> Ints:
    full, rest = np.divmod(context_length, config.window_token_count)
    counts: Ints = full + (rest >= config.min_window_token_count)
    return counts
