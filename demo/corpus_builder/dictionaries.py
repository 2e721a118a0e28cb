"""Readers of dictionaries: WordNet, the Devil's Dictionary, the Jargon File."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from demo.corpus_builder.document import Document, paragraphs, unwrap
from demo.corpus_builder.markup import tidy

_PARTS = {"noun": "noun", "verb": "verb", "adj": "adjective", "adv": "adverb"}


@dataclass(frozen=True)
class Synset:
    """One meaning: its words, gloss with examples, and the offsets of narrower meanings."""

    words: tuple[str, ...]
    gloss: str
    narrower: tuple[str, ...]


def wordnet_entries(folder: Path) -> Iterator[Document]:
    """One entry per word: its senses with their examples; a word is one source."""
    for part, name in _PARTS.items():
        synsets = _synsets(folder, part)
        senses: dict[str, list[str]] = {}
        for synset in synsets.values():
            senses.setdefault(synset.words[0], []).append(synset.gloss)
        for word, glosses in sorted(senses.items()):
            lines = [f"{word} ({name})"]
            lines += [f"{number}. {gloss}" for number, gloss in enumerate(glosses[:8], 1)]
            text = "\n".join(lines) if len(glosses) > 1 else f"{word} ({name}): {glosses[0]}"
            if '"' in text and len(text.split()) >= 20:
                yield Document(f"wordnet/{name}/{word}", "reference", text)


def wordnet_kinds(folder: Path) -> Iterator[Document]:
    """Lists of the kinds of a thing, from the hierarchy of nouns; a list is one source."""
    synsets = _synsets(folder, "noun")
    for synset in synsets.values():
        names = [synsets[offset].words[0] for offset in synset.narrower if offset in synsets]
        plain = [name for name in names if name.replace(" ", "").replace("-", "").isalpha()]
        if 10 <= len(plain) <= 60:
            items = "\n".join(f"- {name}" for name in plain)
            word = synset.words[0]
            yield Document(f"wordnet/kinds/{word}", "lists", f"Kinds of {word}:\n{items}")


def _synsets(folder: Path, part: str) -> dict[str, Synset]:
    synsets = {}
    path = folder / "usr/share/wordnet" / f"data.{part}"
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):
            continue
        data, gloss = line.split(" | ", 1)
        fields = data.split()
        count = int(fields[3], 16)
        words = tuple(fields[4 + 2 * i].split("(")[0].replace("_", " ") for i in range(count))
        narrower = tuple(re.findall(r" ~ (\d{8}) n", data))
        synsets[fields[0]] = Synset(words, gloss.strip(), narrower)
    return synsets


def devils_dictionary(folder: Path) -> Iterator[Document]:
    """Bierce's definitions; an entry is one source."""
    text = _dictd(folder / "usr/share/dictd/devil.dict.dz")
    for entry in re.split(r"\n(?=[A-Z][A-Z'\- ]+, [a-z.]+)", text)[1:]:
        word = entry.split(",")[0].strip().lower()
        blocks = [_verse_or_prose(block) for block in paragraphs(entry)]
        yield Document(f"devils-dictionary/{word}", "reference", tidy("\n\n".join(blocks)))


def _verse_or_prose(block: str) -> str:
    if block.startswith("    "):
        return "\n".join(line.strip() for line in block.split("\n"))
    return unwrap(block)


def jargon_file(folder: Path) -> Iterator[Document]:
    """The hackers' dictionary; an entry is one source."""
    text = _dictd(folder / "usr/share/dictd/jargon.dict.dz").replace("\u00b7", ".")
    for entry in re.split(r"\n\n(?=\S)", text)[1:]:
        head, _, body = entry.partition("\n")
        blocks = [unwrap(re.sub(r"[{}]", "", block)) for block in paragraphs(body)]
        blocks = [block for block in blocks if not block.startswith("/")]
        text_of_entry = f"{head.strip()}\n\n" + "\n\n".join(blocks)
        if len(text_of_entry.split()) >= 30 and "00-database" not in head:
            yield Document(f"jargon/{head.strip()}", "reference", text_of_entry)


def _dictd(path: Path) -> str:
    """A dictzip file is a gzip file with an index in its header."""
    return gzip.decompress(path.read_bytes()).decode("utf-8")
