"""Records of files: text, JSON lines (plain, gzip, zstandard), Parquet and Arrow."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Iterator
from typing import IO, Any, cast

import zstandard

from services.activation.index.corpora.documents import RawRecord, invalid

_GZIP, _ZSTANDARD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_BATCH_ROWS = 256

RecordsOf = Callable[[IO[bytes], str, int], Iterator[RawRecord]]
"""File, its name in errors, the most bytes of one record."""


def json_lines(file: IO[bytes], name: str, max_bytes: int) -> Iterator[RawRecord]:
    """One JSON object a line."""
    lines = _decompressed(file)
    number = 0
    while True:
        number += 1
        place = f"{name} line {number}"
        try:
            line = lines.readline(max_bytes + 1)
        except (OSError, EOFError, zstandard.ZstdError) as error:
            raise invalid(place, f"the compressed file is damaged: {error}") from error
        if not line:
            return
        if len(line) > max_bytes:
            raise invalid(place, f"longer than {max_bytes} bytes")
        yield RawRecord(place, _object(line, place), line)


def text_file(file: IO[bytes], name: str, max_bytes: int) -> Iterator[RawRecord]:
    """The whole file as one document that is named by its path."""
    try:
        raw = _decompressed(file).read(max_bytes + 1)
        if len(raw) > max_bytes:
            raise invalid(name, f"longer than {max_bytes} bytes")
        yield RawRecord(name, {"id": name, "source": name, "kind": "text", "text": raw.decode()})
    except UnicodeDecodeError as error:
        raise invalid(name, f"byte {error.start} is not UTF-8") from error
    except (OSError, EOFError, zstandard.ZstdError) as error:
        raise invalid(name, f"the compressed file is damaged: {error}") from error


def parquet(file: IO[bytes], name: str, max_bytes: int) -> Iterator[RawRecord]:
    """Rows of a Parquet file, a few at a time."""
    import pyarrow
    from pyarrow import parquet as arrow_parquet

    try:
        batches = arrow_parquet.ParquetFile(file).iter_batches(batch_size=_BATCH_ROWS)
        yield from _rows(batches, name, max_bytes)
    except (pyarrow.ArrowException, OSError) as error:
        raise invalid(name, f"not a readable Parquet file: {error}") from error


def arrow(file: IO[bytes], name: str, max_bytes: int) -> Iterator[RawRecord]:
    """Rows of an Arrow file, stream or random access."""
    import pyarrow

    try:
        magic = file.read(6)
        file.seek(0)
        if magic == b"ARROW1":
            reader = pyarrow.ipc.open_file(file)
            batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
        else:
            batches = iter(pyarrow.ipc.open_stream(file))
        yield from _rows(batches, name, max_bytes)
    except (pyarrow.ArrowException, OSError) as error:
        raise invalid(name, f"not a readable Arrow file: {error}") from error


BY_SUFFIX: dict[str, RecordsOf] = {
    ".jsonl": json_lines,
    ".ndjson": json_lines,
    ".json": json_lines,
    ".txt": text_file,
    ".md": text_file,
    ".parquet": parquet,
    ".arrow": arrow,
}
COMPRESSED_SUFFIXES = (".gz", ".zst")


def _rows(batches: Iterator[Any], name: str, max_bytes: int) -> Iterator[RawRecord]:
    number = 0
    for batch in batches:
        for values in batch.to_pylist():
            place = f"{name} row {number}"
            if any(isinstance(v, str) and len(v) > max_bytes for v in values.values()):
                raise invalid(place, f"longer than {max_bytes} bytes")
            yield RawRecord(place, values)
            number += 1


def _object(line: bytes, place: str) -> dict[str, Any]:
    try:
        values = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise invalid(place, f"byte {error.start} is not UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise invalid(place, f"not a document: {error}") from error
    if not isinstance(values, dict):
        raise invalid(place, f"not a document: {type(values).__name__}, not an object")
    return values


def _decompressed(file: IO[bytes]) -> IO[bytes]:
    """The file's content, whatever it is compressed with, told by its first bytes."""
    buffered = io.BufferedReader(cast(io.RawIOBase, file))
    magic = buffered.peek(4)[:4]
    if magic.startswith(_GZIP):
        return cast(IO[bytes], gzip.GzipFile(fileobj=buffered))
    if magic == _ZSTANDARD:
        reader = zstandard.ZstdDecompressor().stream_reader(buffered, read_across_frames=True)
        return io.BufferedReader(reader)
    return buffered
