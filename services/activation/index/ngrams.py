"""Runs of tokens over a whole corpus, block by block: nothing as long as the corpus is held."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from services.activation.index.hashing import UInts, ngram_hashes
from services.activation.index.layout import Ints, Layout
from services.activation.index.spool import blocks

_BLOCK_TOKENS = 2**16


@dataclass(frozen=True)
class Ngrams:
    """Some n-grams, each within one document."""

    hashes: UInts
    places: Ints
    """Offset in the corpus' tokens of each one's first token."""
    documents: Ints
    """Document of each."""


def document_ngrams(layout: Layout, n: int) -> Iterator[Ngrams]:
    """All n-grams that lie within one document, in order of place."""
    offsets, total = layout.document_offsets, len(layout.tokens)
    for block in blocks(total, _BLOCK_TOKENS):
        tokens = np.asarray(layout.tokens[block.start : min(total, block.stop + n - 1)])
        hashes = ngram_hashes(tokens, n)
        places = np.arange(block.start, block.start + len(hashes), dtype=np.int64)
        documents = np.searchsorted(offsets, places, side="right") - 1
        inside = places + n <= offsets[documents + 1]
        yield Ngrams(hashes[inside], places[inside], documents[inside])


def context_shingles(layout: Layout, n: int) -> Iterator[tuple[UInts, Ints]]:
    """Hashes of all n-grams that lie within one context, and the context of each."""
    size = max(1, _BLOCK_TOKENS // 128)
    for block in blocks(layout.context_count, size):
        start = layout.context_start[block.start : block.stop]
        length = layout.context_length[block.start : block.stop]
        begin = int(start[0])
        hashes = ngram_hashes(np.asarray(layout.tokens[begin : int(start[-1] + length[-1])]), n)
        count = np.maximum(0, length - n + 1)
        context = np.repeat(np.arange(len(start)), count)
        within = np.arange(len(context)) - np.repeat(np.cumsum(count) - count, count)
        yield hashes[start[context] - begin + within], context + block.start
