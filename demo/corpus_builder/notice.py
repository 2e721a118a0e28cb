"""Renders ``SOURCES.md``: where each group comes from and under which licence it ships."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from demo.corpus_builder.catalog import Group
from demo.corpus_builder.packages import Package

_INTRODUCTION = """# Sources of the demo corpus

Written by `python -m demo.build_corpus`; change the catalog, not this file.

{documents} documents of {sources} sources, {tokens} tokens of SmolLM2. The corpus is a
collection: each text stays under its own licence, named below, and the licence of this
repository's code doesn't extend to it. Licence texts and copyright notices are in
`licences/`. Texts were cut into documents, unwrapped and freed of markup, page furniture
and licence headers; placeholders in game dialogue were filled with fixed words. Whole
sources were taken in the order of the SHA-256 of their names, up to the group's budget;
documents that share a quarter of their 8-word shingles with an earlier one were left out.
"""


def render_sources(
    groups: Sequence[Group],
    packages: Mapping[str, Package],
    tokens_by: Mapping[str, Counter[str]],
    documents: int,
    sources: int,
) -> str:
    """The notice as Markdown, deterministic."""
    total = sum(tokens_by["kind"].values())
    parts = [_INTRODUCTION.format(documents=documents, sources=sources, tokens=total)]
    parts.append("\n## Kinds\n\n| kind | tokens | share |\n|---|---:|---:|\n")
    for kind, tokens in sorted(tokens_by["kind"].items()):
        parts.append(f"| {kind} | {tokens} | {tokens / total:.1%} |\n")
    parts.append(
        "\n## Groups\n\n| group | licence | what and whose | packages | documents | tokens |\n"
    )
    parts.append("|---|---|---|---|---:|---:|\n")
    for group in groups:
        labels = ", ".join(f"`{packages[name].label}`" for name in group.packages)
        parts.append(
            f"| {group.name} | {group.licence} | {group.origin} | {labels} "
            f"| {tokens_by['documents'][group.name]} | {tokens_by['group'][group.name]} |\n"
        )
    return "".join(parts)
