"""Rows of token ids from the corpus: what training, evaluation and sweep run on.

A document is tokenised without special tokens and cut into pieces; each piece is one row with
BOS first, so no row mixes two documents. Position 0 is the attention sink and is left out of
everything that is trained on or measured.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import zstandard

HELD_OUT_SHARE = 0.05


@dataclass(frozen=True)
class CorpusDocument:
    """One line of the corpus."""

    id: str
    source: str
    kind: str
    text: str


@dataclass(frozen=True)
class Row:
    """One context: BOS and then the tokens of one piece of one document."""

    source: str
    token_ids: tuple[int, ...]


def read_corpus(path: Path) -> list[CorpusDocument]:
    """All documents in file order."""
    with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
        lines = stream.read().decode("utf-8").split("\n")
    return [CorpusDocument(**json.loads(line)) for line in lines if line]


def is_held_out(source: str, share: float = HELD_OUT_SHARE) -> bool:
    """Whether a source is kept from training; depends on nothing but its name."""
    digest = hashlib.sha256(f"held-out:{source}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def rows(
    documents: Iterable[CorpusDocument], model_folder: Path, context_tokens: int, bos_id: int
) -> Iterator[Row]:
    """Rows of at most ``context_tokens`` tokens, BOS included; shorter rests than 8 left out."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model_folder / "tokenizer.json"))
    step = context_tokens - 1
    for document in documents:
        ids = tokenizer.encode(document.text, add_special_tokens=False).ids
        for start in range(0, len(ids), step):
            piece = ids[start : start + step]
            if len(piece) >= 8:
                yield Row(document.source, (bos_id, *piece))
