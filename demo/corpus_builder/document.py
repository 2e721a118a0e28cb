"""One document of the corpus and how longer text is cut into documents."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

TARGET_WORDS = 450
MAXIMUM_WORDS = 1200


@dataclass(frozen=True)
class Document:
    """A piece of text with the unit it belongs to."""

    source: str
    """Unit kept together in the split: a book, page, scenario, module or dictionary entry."""
    kind: str
    """prose, speech, dialogue, reference, technical, howto, discussion, code or lists."""
    text: str


def word_count(text: str) -> int:
    """Whitespace-separated words."""
    return len(text.split())


def cut(blocks: Iterable[str], *, separator: str = "\n\n", words: int = TARGET_WORDS) -> list[str]:
    """Join blocks (paragraphs, entries) into texts of about ``words`` words, order kept.

    A block is never split unless it alone exceeds ``MAXIMUM_WORDS``; a short rest joins the
    text before it.
    """
    texts: list[str] = []
    current: list[str] = []
    for block in _bounded(blocks):
        current.append(block)
        if sum(map(word_count, current)) >= words:
            texts.append(separator.join(current))
            current = []
    if current:
        rest = separator.join(current)
        if texts and word_count(rest) < words // 4:
            texts[-1] += separator + rest
        else:
            texts.append(rest)
    return texts


def paragraphs(text: str) -> list[str]:
    """Split at blank lines; empty ones are dropped."""
    return [part.strip("\n") for part in re.split(r"\n\s*\n", text) if part.strip()]


def unwrap(paragraph: str) -> str:
    """Join the hard-wrapped lines of a paragraph of prose into one line."""
    return " ".join(paragraph.split())


def _bounded(blocks: Iterable[str]) -> Iterator[str]:
    for block in blocks:
        if not block.strip():
            continue
        if word_count(block) <= MAXIMUM_WORDS:
            yield block
        else:
            yield from _sentences(block)


def _sentences(block: str) -> Iterator[str]:
    """Cut an overlong block at sentence ends into pieces of about ``TARGET_WORDS`` words."""
    piece: list[str] = []
    for sentence in re.split(r"(?<=[.!?])\s+", block):
        piece.append(sentence)
        if sum(map(word_count, piece)) >= TARGET_WORDS:
            yield " ".join(piece)
            piece = []
    if piece:
        yield " ".join(piece)
