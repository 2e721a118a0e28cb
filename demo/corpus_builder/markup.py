"""HTML, Mallard and POD to plain text: paragraphs, list items and code, nothing else."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

_BLOCK = frozenset(
    {"p", "div", "section", "article", "li", "dt", "dd", "tr", "h1", "h2", "h3", "h4", "h5", "h6"}
    | {"pre", "blockquote", "table", "ul", "ol", "dl", "br", "hr"}
)
_SKIPPED = frozenset(["script", "style", "nav", "head", "footer", "svg", "button", "form", "img"])
_VOID = frozenset(["br", "hr", "img", "input", "meta", "link", "col", "area", "base", "wbr"])


class _TextExtractor(HTMLParser):
    """Collects the text of the elements that ``inside`` picks and ``without`` doesn't drop."""

    def __init__(self, inside: str | None, without: frozenset[str]) -> None:
        super().__init__(convert_charrefs=True)
        self._inside, self._without = inside, without
        self._stack: list[tuple[str, bool, bool]] = []
        self._parts: list[str] = []
        self._bullet = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = {value for _, text in attrs for value in (text or "").split()}
        if tag in _BLOCK:
            self._break(tag)
        if tag == "li":
            self._bullet = "- "
        if tag in _VOID:
            return
        kept = self._keeping() or self._inside in names
        dropped = self._dropping() or tag in _SKIPPED or bool(names & self._without)
        self._stack.append((tag, kept, dropped))

    def handle_endtag(self, tag: str) -> None:
        if tag in _VOID:
            return
        for index in range(len(self._stack) - 1, -1, -1):
            if self._stack[index][0] == tag:
                if tag in _BLOCK:
                    self._break(tag)
                del self._stack[index:]
                return

    def handle_data(self, data: str) -> None:
        if not self._keeping() or self._dropping():
            return
        verbatim = any(tag == "pre" for tag, _, _ in self._stack)
        text = data if verbatim else re.sub(r"\s+", " ", data)
        if not verbatim and (not self._parts or self._parts[-1].endswith(("\n", " "))):
            text = text.lstrip(" ")
        if text:
            self._parts.append(self._bullet + text)
            self._bullet = ""

    def text(self) -> str:
        return tidy("".join(self._parts))

    def _keeping(self) -> bool:
        return self._inside is None or bool(self._stack and self._stack[-1][1])

    def _dropping(self) -> bool:
        return bool(self._stack and self._stack[-1][2])

    def _break(self, tag: str) -> None:
        if self._keeping() and not self._dropping() and not self._bullet:
            self._parts.append("\n" if tag in {"li", "dt", "dd", "tr", "br"} else "\n\n")


def html_text(html: str, *, inside: str | None = None, without: tuple[str, ...] = ()) -> str:
    """Text of a page: of the elements whose id, class or role is ``inside`` (the whole page
    when None), without those that carry a name of ``without``."""
    extractor = _TextExtractor(inside, frozenset(without))
    extractor.feed(html)
    extractor.close()
    return extractor.text()


def mallard_text(xml: str) -> str:
    """Text of a Mallard help page: titles, paragraphs and steps, without its metadata."""
    root = ElementTree.fromstring(xml)
    lines: list[str] = []
    _mallard(root, lines, bullet="")
    return tidy("\n\n".join(lines))


def _mallard(element: ElementTree.Element, lines: list[str], bullet: str) -> None:
    number = 0
    for child in element:
        name = child.tag.rsplit("}", 1)[-1]
        if name in {"info", "media", "links", "comment"}:
            continue
        if name in {"title", "p"}:
            lines.append(bullet + " ".join("".join(child.itertext()).split()))
            bullet = ""
        elif name in {"code", "screen"}:
            lines.append("".join(child.itertext()).strip("\n"))
        elif name == "item":
            number += 1
            _mallard(child, lines, f"{number}. " if _is_steps(element) else "- ")
        else:
            _mallard(child, lines, "")


def _is_steps(element: ElementTree.Element) -> bool:
    return element.tag.endswith("steps")


def pod_text(pod: str) -> str:
    """Text of a POD page: commands become headings or bullets, formatting codes their content."""
    text = re.sub(r"^=(?:for|begin|end|encoding|cut|over|back|pod)\b.*$", "", pod, flags=re.M)
    text = re.sub(r"^=item\s+\*?\s*", "- ", text, flags=re.M)
    text = re.sub(r"^=head\d\s+", "", text, flags=re.M)
    text = re.sub(r"\b[XZ]<[^<>]*>", "", text)
    for _ in range(3):
        text = re.sub(r"\b[BCEFILS]<<+\s+(.*?)\s+>>+", r"\1", text, flags=re.S)
        text = re.sub(r"\bL<(?:([^<>|]*)\|)?([^<>]*)>", lambda m: m[1] or m[2], text)
        text = re.sub(r"\b[BCFIS]<([^<>]*)>", r"\1", text)
    return tidy(re.sub(r"\bE<(lt|gt|sol|verbar)>", lambda m: _ENTITIES[m[1]], text))


_ENTITIES = {"lt": "<", "gt": ">", "sol": "/", "verbar": "|"}


def tidy(text: str) -> str:
    """Normalise line ends and spaces at line ends, at most one blank line in a row."""
    text = (
        text.replace("\r\n", "\n")
        .replace("\xa0", " ")
        .replace("¶", "")
        .replace("§", "")
        .replace("\u200b", "")
    )
    text = re.sub(r"[ \t]+\n", "\n", text)
    text = re.sub(r"\n{3,}", "\n\n", text)
    return text.strip()
