"""Corpora of every kind give the same documents, and what is wrong with one is named.

Load-bearing: ``test_every_format_holds_the_same_documents``.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import fsspec
import pyarrow
import pytest
import zstandard
from pyarrow import parquet

from services.activation.index.corpora.documents import ColumnNames, DocumentReader, RawRecord
from services.activation.index.corpora.locations import LocationPolicy
from services.activation.index.corpus import CorpusSpec, Document, open_corpus, read_corpus
from services.common.errors import FailedPrecondition, InvalidArgument

ROWS = [
    {"id": f"d{i}", "source": f"s{i // 2}", "kind": "prose", "text": f"text {i} \u00e9\n ok"}
    for i in range(7)
]
DOCUMENTS = tuple(Document(**row) for row in ROWS)
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def _parquet(path: Path) -> None:
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), path, row_group_size=3)


def _arrow(path: Path) -> None:
    table = pyarrow.Table.from_pylist(ROWS)
    with pyarrow.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


FORMATS: dict[str, Callable[[Path], Any]] = {
    "c.jsonl": lambda path: path.write_bytes(LINES),
    "c.jsonl.gz": lambda path: path.write_bytes(gzip.compress(LINES)),
    "c.ndjson.zst": lambda path: path.write_bytes(zstandard.compress(LINES)),
    "c.parquet": _parquet,
    "c.arrow": _arrow,
    "saved": lambda path: datasets.Dataset.from_list(ROWS).save_to_disk(str(path)),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_holds_the_same_documents(tmp_path: Path, name: str) -> None:
    FORMATS[name](tmp_path / name)
    corpus = read_corpus(tmp_path / name)
    assert corpus.documents == DOCUMENTS
    assert corpus.fingerprint == read_corpus(tmp_path / name).fingerprint
    assert len(read_corpus(tmp_path / name, max_documents=3).documents) == 3


def test_a_folder_is_read_in_order_of_its_paths_and_text_files_are_documents(
    tmp_path: Path,
) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "z.txt").write_text("last")
    (tmp_path / "a.md").write_text("first")
    (tmp_path / "m.txt.gz").write_bytes(gzip.compress(b"middle"))
    (tmp_path / "ignored.png").write_bytes(b"\x89PNG")
    found = read_corpus(tmp_path).documents
    assert [(d.id, d.source, d.text) for d in found] == [
        ("a.md", "a.md", "first"),
        ("b/z.txt", "b/z.txt", "last"),
        ("m.txt.gz", "m.txt.gz", "middle"),
    ]


def test_an_object_store_is_read_like_a_folder() -> None:
    store = fsspec.filesystem("memory")
    store.pipe("/corpus-e/one.jsonl", LINES)
    store.pipe("/corpus-e/two.txt", b"two")
    documents = read_corpus("memory://corpus-e").documents
    assert documents[:-1] == DOCUMENTS
    assert documents[-1].text == "two"


def test_columns_may_have_other_names_and_all_but_the_text_may_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text('{"content": "a", "page": 7}\n{"content": "b", "page": 8}\n')
    columns = ColumnNames(text="content", source="page")
    reader = open_corpus(CorpusSpec(str(path), columns=columns), LocationPolicy())
    assert list(reader) == [
        Document("c.jsonl line 1", "7", "text", "a"),
        Document("c.jsonl line 2", "8", "text", "b"),
    ]
    other = open_corpus(
        CorpusSpec(str(path), columns=ColumnNames(text="content")), LocationPolicy()
    )
    assert [document.source for document in other] == ["c.jsonl line 1", "c.jsonl line 2"]
    assert other.fingerprint != reader.fingerprint


BROKEN = {
    "an empty text": (b'{"id": "a", "text": ""}\n', "line 1: the text is empty"),
    "no text column": (b'{"id": "a", "body": "x"}\n', "there is no column 'text'"),
    "a column that stops": (b'{"id": "a", "text": "x"}\n{"text": "y"}\n', "line 2.*no column 'id'"),
    "NaN for a text": (b'{"text": NaN}\n', "nan, not text"),
    "null for a text": (b'{"text": null}\n', "holds nothing"),
    "a list": (b"[1]\n", "not a document"),
    "no JSON": (b'{"text": "x"}\nboo\n', "line 2: not a document"),
    "bytes that are no UTF-8": (
        b'{"text": "x"}\n{"text": "\xff"}\n',
        "line 2: byte 10 is not UTF-8",
    ),
    "half a surrogate pair": (b'{"text": "\\ud800"}\n', "surrogate"),
    "a line without an end": (b'{"text": "' + b"x" * 2_000 + b'"}\n', "longer than 1000 bytes"),
    "nothing": (b"", "holds no document"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_document_is_named(tmp_path: Path, case: str) -> None:
    """Guards against documents that are silently skipped or made up."""
    raw, problem = BROKEN[case]
    (tmp_path / "c.jsonl").write_bytes(raw)
    spec = CorpusSpec(str(tmp_path / "c.jsonl"))
    with pytest.raises(InvalidArgument, match=problem) as caught:
        list(open_corpus(spec, LocationPolicy(), max_document_bytes=1_000))
    assert caught.value.violations[0].field == "corpus"


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("c.jsonl.gz", gzip.compress(LINES)[:40]),
        ("c.jsonl.zst", zstandard.compress(LINES)[:30] + b"xxxx"),
        ("c.parquet", b"PAR1 no"),
        ("c.arrow", b"ARROW1 no"),
        ("c.txt", b"\xff\xfe"),
        ("c.pdf", b"%PDF"),
    ],
)
def test_a_damaged_file_is_the_caller_s_to_mend(tmp_path: Path, name: str, raw: bytes) -> None:
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(InvalidArgument) as caught:
        read_corpus(tmp_path / name)
    assert caught.value.violations[0].field == "corpus"


def test_what_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="cannot be read"):
        read_corpus(tmp_path / "nothing.jsonl")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidArgument, match="holds no file"):
        read_corpus(tmp_path / "empty")


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data.jsonl",
        "s3://bucket/c.jsonl",
        "zip://c.jsonl::http://localhost/x.zip",
        "simplecache::https://example.com/c.jsonl",
        "dataset:someone/some",
        "/etc/passwd.txt",
        "file:///etc/passwd.txt",
        "corpora/../../etc/passwd.txt",
        "",
    ],
)
def test_locations_off_the_list_are_refused_before_they_are_opened(
    tmp_path: Path, location: str
) -> None:
    """Guards against an API caller who makes the indexer read what it can reach."""
    policy = LocationPolicy(("file",), (tmp_path,))
    with pytest.raises(InvalidArgument):
        open_corpus(CorpusSpec(location), policy)


def test_a_link_does_not_lead_out_of_the_folders(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out.jsonl").write_bytes(LINES)
    (tmp_path / "in" / "link.jsonl").symlink_to(tmp_path / "out.jsonl")
    policy = LocationPolicy(("file",), (tmp_path / "in",))
    with pytest.raises(InvalidArgument, match="corpus_folders"):
        open_corpus(CorpusSpec(str(tmp_path / "in" / "link.jsonl")), policy)


def test_records_are_read_as_they_are_asked_for() -> None:
    """Guards against a corpus that is held in memory."""
    read = 0

    def endless() -> Any:
        nonlocal read
        while True:
            read += 1
            yield RawRecord(str(read), {"text": f"document {read}"})

    documents = iter(DocumentReader(endless()))
    assert [next(documents).id for _ in range(3)] == ["1", "2", "3"]
    assert read == 3
