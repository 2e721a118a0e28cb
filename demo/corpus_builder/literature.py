"""Readers of novels, scripture and speeches."""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from demo.corpus_builder.document import Document, cut, paragraphs, unwrap


def moby_dick(folder: Path) -> Iterator[Document]:
    """Melville's novel, one file per chapter; the whole book is one source."""
    chapters = folder / "package" / "data"
    numbered = ((int(path.stem.split("_")[1]), path) for path in chapters.glob("chapter_*.txt"))
    for _, path in sorted(numbered):
        blocks = [unwrap(block) for block in paragraphs(path.read_text(encoding="utf-8"))]
        for text in cut(blocks):
            yield Document("book/moby-dick", "prose", text)


def austen(folder: Path) -> Iterator[Document]:
    """The six novels of the R package, each one source."""
    database = folder / "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb"
    for lines in _string_vectors(database.read_bytes()):
        text = "\n".join(lines)
        title = re.sub(r"[^a-z]+", "-", lines[0].strip().lower()).strip("-")
        blocks = [unwrap(block) for block in paragraphs(text)]
        for piece in cut(blocks[3:]):
            yield Document(f"book/{title}", "prose", piece)


def _string_vectors(database: bytes) -> Iterator[list[str]]:
    """Character vectors of an R lazy-load database.

    A record is a big-endian length of the unpacked data, then a zlib stream of R's XDR
    serialisation, in which a string is a CHARSXP: flags whose low byte is 9, length, bytes.
    """
    position = 0
    while position + 6 < len(database):
        unpacker = zlib.decompressobj()
        try:
            raw = unpacker.decompress(database[position + 4 :])
        except zlib.error as error:
            raise ValueError(f"no record at byte {position} of the R database") from error
        position = len(database) - len(unpacker.unused_data)
        strings = list(_character_strings(raw))
        if len(strings) > 1000:
            yield strings


def _character_strings(raw: bytes) -> Iterator[str]:
    marker = re.compile(rb"\x00[\x00-\x0f][\x00-\xff]\x09", re.S)
    position = raw.find(b"\x00\x00\x00\x10") + 8
    while match := marker.match(raw, position):
        (length,) = struct.unpack(">i", raw[match.end() : match.end() + 4])
        start = match.end() + 4
        yield raw[start : start + length].decode("utf-8")
        position = start + length


def king_james_bible(folder: Path) -> Iterator[Document]:
    """The King James version, each of its books one source, a chapter one paragraph."""
    verses = json.loads((folder / "package/json/verses-1769.json").read_text("utf-8"))
    chapters: dict[str, dict[str, list[str]]] = {}
    for reference, text in verses.items():
        book, _, place = reference.rpartition(" ")
        plain = re.sub(r"[#\[\]]", "", text).strip()
        chapters.setdefault(book, {}).setdefault(place.split(":")[0], []).append(plain)
    for book, numbered in chapters.items():
        blocks = [" ".join(lines) for lines in numbered.values()]
        for piece in cut(blocks):
            yield Document(f"bible/{book}", "prose", piece)


def state_of_the_union(folder: Path) -> Iterator[Document]:
    """Presidential addresses; each speech is one source."""
    for path in sorted((folder / "package" / "data").glob("*.txt")):
        text = path.read_text(encoding="utf-8")
        for piece in cut([unwrap(block) for block in paragraphs(text)]):
            yield Document(f"speech/{path.stem}", "speech", piece)
