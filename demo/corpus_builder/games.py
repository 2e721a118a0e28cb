"""Readers of dialogue and descriptions in free games."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from demo.corpus_builder.document import Document, cut, paragraphs, unwrap

_WML = re.compile(
    r"\bspeaker\s*=\s*(?P<speaker>[^\n]+)"
    r'|\b(?P<key>message|story)\s*=\s*_\s*"(?P<text>(?:[^"]|"")*)"(?P<more>(?:\s*\+\s*_?\s*"(?:[^"]|"")*")*)'
)
_NO_NAME = frozenset({"narrator", "unit", "second_unit", "unit_1"})


def wesnoth(folder: Path) -> Iterator[Document]:
    """Story and spoken lines of campaign scenarios; a scenario is one source."""
    for path in sorted(folder.glob("usr/share/games/wesnoth/*/data/campaigns/*/scenarios/*.cfg")):
        campaign, scenario = path.parts[-3], path.stem
        lines = list(_wesnoth_lines(path.read_text(encoding="utf-8")))
        for text in cut(lines, words=300):
            yield Document(f"wesnoth/{campaign}/{scenario}", "dialogue", text)


def _wesnoth_lines(config: str) -> Iterator[str]:
    speaker = ""
    for match in _WML.finditer(config):
        if match["speaker"]:
            speaker = match["speaker"].split("#")[0].strip().strip('"')
            continue
        raw = match["text"] + "".join(re.findall(r'"((?:[^"]|"")*)"', match["more"] or ""))
        text = unwrap(re.sub(r"<[^<>]*>", "", raw.replace('""', "'")))
        if len(text.split()) < 3 or re.search(r"[{}$|]", text):
            continue
        named = match["key"] == "message" and speaker.replace(" ", "").replace("'", "").isalpha()
        if named and speaker not in _NO_NAME:
            yield f"{speaker}: {text}"
        else:
            yield text
        speaker = ""


_PLACEHOLDERS = {
    "<first>": "Alex",
    "<last>": "Reed",
    "<ship>": "Wanderer",
    "<planet>": "the planet",
    "<destination>": "the port",
    "<origin>": "this world",
    "<commodity>": "grain",
    "<tons>": "twelve tons",
    "<cargo>": "cargo",
    "<payment>": "the promised sum",
    "<system>": "the system",
    "<day>": "the agreed day",
    "<date>": "the agreed day",
    "<bunks>": "six",
    "<passengers>": "passengers",
    "<stopovers>": "several worlds",
    "<npc>": "the escort",
}


def endless_sky(folder: Path) -> Iterator[Document]:
    """Conversations of a space trading game; a mission is one source.

    The game's placeholders (player, ship, port) are filled with fixed words.
    """
    for path in sorted(folder.glob("usr/share/games/endless-sky/data/*.txt")):
        parts = re.split(
            r'^(?:mission|conversation) "?([^"\n]+)"?.*$', path.read_text("utf-8"), flags=re.M
        )
        for name, body in zip(parts[1::2], parts[2::2], strict=True):
            lines = [_fill(line) for line in re.findall(r"`([^`\n]+)`", body)]
            for text in cut([line for line in lines if "<" not in line], separator="\n", words=350):
                yield Document(f"endless-sky/{path.stem}/{name.strip()}", "dialogue", text)


def _fill(line: str) -> str:
    for key, value in _PLACEHOLDERS.items():
        line = line.replace(key, value)
    return line.strip()


_CRAWL_FILES = (
    "monsters",
    "items",
    "spells",
    "features",
    "gods",
    "mutations",
    "skills",
    "branches",
)


def crawl(folder: Path) -> Iterator[Document]:
    """Descriptions of creatures and things in a dungeon game; an entry is one source."""
    for name in _CRAWL_FILES:
        path = folder / "usr/share/crawl/dat/descript" / f"{name}.txt"
        for entry in re.split(r"^%%%%\s*$", path.read_text("utf-8"), flags=re.M):
            blocks = paragraphs("\n".join(x for x in entry.split("\n") if not x.startswith("#")))
            if len(blocks) < 2 or re.search(r"[{}<>@$]|^:", "\n".join(blocks), flags=re.M):
                continue
            title = blocks[0].strip()
            body = "\n\n".join(unwrap(block) for block in blocks[1:])
            if len(body.split()) >= 12 and "\n" not in title:
                yield Document(f"crawl/{name}/{title}", "reference", f"{title}\n\n{body}")
