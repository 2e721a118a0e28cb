"""Readers of manuals, task help, questions and answers, and release notes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from demo.corpus_builder.document import Document, cut, paragraphs, unwrap
from demo.corpus_builder.markup import html_text, mallard_text, pod_text

_SPHINX_CHROME = (
    "sphinxsidebar",
    "related",
    "headerlink",
    "linenos",
    "contents",
    "toctree-wrapper",
)
_DOCBOOK_CHROME = ("navheader", "navfooter", "toc", "titlepage-legal", "legalnotice")


def _pages(
    paths: list[Path], prefix: str, kind: str, *, inside: str | None, without: tuple[str, ...]
) -> Iterator[Document]:
    for path in sorted(paths):
        html = path.read_bytes().decode("utf-8", errors="strict" if inside else "replace")
        text = html_text(html, inside=inside, without=without)
        for piece in cut(paragraphs(text)):
            yield Document(f"{prefix}/{_page_name(path)}", kind, piece)


def _page_name(path: Path) -> str:
    """File name below the manual's folder, without the folder that holds all pages."""
    folder = path.parent.name
    return path.stem if folder in {"html", "sqlite3", "en-US"} else f"{folder}/{path.stem}"


def python_manual(folder: Path) -> Iterator[Document]:
    """Tutorial, how-tos, language and library reference of Python."""
    root = folder / "usr/share/doc/python3.11/html"
    names = ("tutorial", "howto", "reference", "library", "using", "extending")
    pages = [page for name in names for page in (root / name).glob("*.html")]
    return _pages(pages, "python-doc", "technical", inside="body", without=_SPHINX_CHROME)


def python_faq(folder: Path) -> Iterator[Document]:
    """Questions and answers about Python."""
    pages = list((folder / "usr/share/doc/python3.11/html/faq").glob("*.html"))
    return _pages(pages, "python-faq", "discussion", inside="body", without=_SPHINX_CHROME)


def python_news(folder: Path) -> Iterator[Document]:
    """What changed in each Python release."""
    pages = list((folder / "usr/share/doc/python3.11/html/whatsnew").glob("[0-9]*.html"))
    return _pages(pages, "python-news", "lists", inside="body", without=_SPHINX_CHROME)


def django_manual(folder: Path) -> Iterator[Document]:
    """Guides and reference of a web framework."""
    root = folder / "usr/share/doc/python-django-doc/html"
    names = ("topics", "ref", "howto", "intro", "misc", "internals")
    pages = [page for name in names for page in (root / name).rglob("*.html")]
    return _pages(pages, "django-doc", "technical", inside="yui-g", without=_SPHINX_CHROME)


def django_news(folder: Path) -> Iterator[Document]:
    """Release notes of a web framework."""
    pages = list((folder / "usr/share/doc/python-django-doc/html/releases").glob("*.html"))
    return _pages(pages, "django-news", "lists", inside="yui-g", without=_SPHINX_CHROME)


def postgresql_manual(folder: Path) -> Iterator[Document]:
    """Manual of a database, without release notes and legal pages."""
    root = folder / "usr/share/doc/postgresql-doc-15/html"
    dull = re.compile(r"^(release|legalnotice|bookindex|index|biblio|features|acronyms|errcodes)")
    pages = [page for page in root.glob("*.html") if not dull.match(page.stem)]
    return _pages(pages, "postgresql-doc", "technical", inside=None, without=_DOCBOOK_CHROME)


def postgresql_news(folder: Path) -> Iterator[Document]:
    """Release notes of a database."""
    pages = list((folder / "usr/share/doc/postgresql-doc-15/html").glob("release-*.html"))
    return _pages(pages, "postgresql-news", "lists", inside=None, without=_DOCBOOK_CHROME)


def sqlite_manual(folder: Path) -> Iterator[Document]:
    """Essays and reference of an embedded database."""
    root = folder / "usr/share/doc/sqlite3"
    dull = re.compile(r"^(changes|releaselog|keyword|index|sitemap|doclist|cvstrac|copyright)")
    pages = [page for page in root.glob("*.html") if not dull.match(page.stem)]
    chrome = ("nosearch", "menu", "mainmenu", "hamburger", "fancy_toc", "searchmenu", "tagline")
    return _pages(pages, "sqlite-doc", "technical", inside=None, without=chrome)


def git_guides(folder: Path) -> Iterator[Document]:
    """Essays and letters from a mailing list on working with Git and contributing to it."""
    root = folder / "usr/share/doc/git/html"
    names = ("MyFirst*", "SubmittingPatches*", "Reviewing*", "giteveryday*", "gitfaq*", "howto/*")
    pages = [page for name in names for page in root.glob(f"{name}.html")]
    return _pages(pages, "git", "discussion", inside=None, without=("toc", "footer"))


def perl_faq(folder: Path) -> Iterator[Document]:
    """Questions and answers about Perl; one question is one source."""
    for path in sorted((folder / "usr/share/perl/5.36.0/pod").glob("perlfaq[1-9].pod")):
        body = path.read_text("utf-8").split("=head1 AUTHOR")[0]
        for question in re.split(r"^=head2\s+", body, flags=re.M)[1:]:
            title = re.sub(r"[^a-z0-9]+", "-", question.split("\n")[0].lower()).strip("-")
            for piece in cut(_pod_blocks(question)):
                yield Document(f"{path.stem}/{title}", "discussion", piece)


def perl_manual(folder: Path) -> Iterator[Document]:
    """Perl's tutorials and reference pages."""
    for path in sorted((folder / "usr/share/perl/5.36.0/pod").glob("*.pod")):
        if re.match(
            r"perl(\d|faq|gpl|artistic|hist|toc|delta|dia|uniprops|api|intern|book|cn|ko|jp|tw)",
            path.stem,
        ):
            continue
        body = re.split(r"^=head1 (?:AUTHOR|COPYRIGHT)", path.read_text("utf-8"), flags=re.M)[0]
        for piece in cut(_pod_blocks(body)):
            yield Document(f"perl-doc/{path.stem}", "technical", piece)


def _pod_blocks(pod: str) -> list[str]:
    """Paragraphs of a POD page; prose is unwrapped, indented program text kept."""
    blocks = paragraphs(pod_text(pod))
    return [block if block.startswith(" ") else unwrap(block) for block in blocks]


def gnome_help(folder: Path) -> Iterator[Document]:
    """Task help of a desktop; a page is one source."""
    for path in sorted((folder / "usr/share/help/C").glob("*/*.page")):
        for piece in cut(paragraphs(mallard_text(path.read_text("utf-8"))), words=600):
            yield Document(f"gnome-help/{path.stem}", "howto", piece)


def debian_handbook(folder: Path) -> Iterator[Document]:
    """The Debian Administrator's Handbook; a section is one source."""
    pages = list((folder / "usr/share/doc/debian-handbook/html/en-US").glob("sect.*.html"))
    return _pages(pages, "debian-handbook", "howto", inside=None, without=("docnav", "toc"))
