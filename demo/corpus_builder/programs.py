"""Readers of program text and changelogs."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from demo.corpus_builder.document import Document, cut

_LICENCE = re.compile(r"copyright|licen[sc]e|all rights reserved", re.I)
_DULL = re.compile(
    r"test|idlelib|lib2to3|pydoc_data|encodings|turtledemo|msilib|_sysconfig|site-packages"
)


def python_modules(folder: Path) -> Iterator[Document]:
    """Modules of Python's standard library; a module is one source."""
    root = folder / "usr/lib/python3.11"
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).with_suffix("").as_posix()
        if not path.is_file():  # some are links into packages that aren't read here
            continue
        code = path.read_text(encoding="utf-8", errors="replace")
        if _DULL.search(name) or "\ufffd" in code or not 1500 <= len(code) <= 120_000:
            continue
        ast.parse(code)
        for piece in _code_pieces(code):
            yield Document(f"python/{name}", "code", piece)


def javascript_sources(package: str) -> Callable[[Path], Iterator[Document]]:
    """Reader of an npm package's JavaScript files; a file is one source."""

    def read(folder: Path) -> Iterator[Document]:
        root = folder / "package"
        for path in sorted(root.rglob("*.js")):
            name = path.relative_to(root).as_posix()
            code = path.read_text(encoding="utf-8", errors="replace")
            longest = max(map(len, code.split("\n")), default=0)
            dull = re.search(
                r"min\.js|/(es|cjs|amd|umd|esm|node|locale|cdn)/|^(es|amd|cjs)/|test", name
            )
            if dull or longest > 300 or not 600 <= len(code) <= 250_000:
                continue
            for piece in _code_pieces(code):
                yield Document(f"{package}/{name}", "code", piece)

    return read


def markdown_notes(package: str, name: str) -> Callable[[Path], Iterator[Document]]:
    """Reader of an npm package's changelog; a major version is one source."""

    def read(folder: Path) -> Iterator[Document]:
        text = (folder / "package" / name).read_text(encoding="utf-8")
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
        for section in re.split(r"^(?=#{1,3} )", text, flags=re.M):
            number = re.search(r"\d+", section.split("\n")[0])
            major = number[0] if number else "0"
            yield Document(f"{package}/notes/{major}", "lists", section.strip())

    def joined(folder: Path) -> Iterator[Document]:
        grouped: dict[str, list[str]] = {}
        for document in read(folder):
            grouped.setdefault(document.source, []).append(document.text)
        for source, sections in grouped.items():
            for piece in cut(sections):
                yield Document(source, "lists", piece)

    return joined


def _code_pieces(code: str) -> list[str]:
    """Cut at blank lines before unindented text; comment blocks about licences are dropped."""
    code = re.sub(r"/\*.*?\*/", lambda m: "" if _LICENCE.search(m[0]) else m[0], code, flags=re.S)
    code = re.sub(
        r"(?:^[ \t]*(?:#|//).*\n)+",
        lambda m: "" if _LICENCE.search(m[0]) else m[0],
        code,
        flags=re.M,
    )
    blocks = re.split(r"\n{2,}(?=\S)", code.replace("\r\n", "\n").expandtabs(4))
    blocks = [block.strip("\n") for block in blocks if block.strip()]
    return cut(_short_blocks(blocks), words=250)


def _short_blocks(blocks: list[str]) -> Iterator[str]:
    """Blocks longer than 400 words (classes) are cut at their inner blank lines."""
    for block in blocks:
        if len(block.split()) <= 400:
            yield block
        else:
            yield from block.split("\n\n")
