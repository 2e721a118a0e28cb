"""Records on disk, divided by a hash: sorting and joining what memory does not hold.

All records with one hash lie in one part, and a part is small: whatever is asked of equal hashes
is answered part by part. Parts are removed with the spool's folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

RECORDS_PER_PART = 2**17
"""Aimed at; a part and its sorting take some 10 MB."""
MOST_PARTS = 4_096
"""Above ``RECORDS_PER_PART * MOST_PARTS`` records parts grow instead of their number."""

Columns = Mapping[str, NDArray[Any]]


class Spool:
    """See the module's docstring.

    Args:
        folder: An empty folder of its own; the caller removes it.
        expected_count: About how many records will come; decides the number of parts.
        columns: Name and numpy type of every column but ``hash``.
    """

    def __init__(self, folder: Path, expected_count: int, columns: Mapping[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        wanted = max(1, -(-expected_count // RECORDS_PER_PART))
        self._bits = min(MOST_PARTS, wanted - 1).bit_length()
        self._folder = folder
        self._type = np.dtype([("hash", "<u8"), *columns.items()])

    def add(self, hashes: NDArray[np.uint64], **columns: NDArray[Any]) -> None:
        """Append records; their order within a part is the order they came in."""
        records = np.empty(len(hashes), dtype=self._type)
        records["hash"] = hashes
        for name, values in columns.items():
            records[name] = values
        if self._bits == 0:
            self._append(0, records)
            return
        part = (hashes >> np.uint64(64 - self._bits)).astype(np.uint16)
        records = records[np.argsort(part, kind="stable")]
        bounds = np.concatenate([[0], np.cumsum(np.bincount(part, minlength=2**self._bits))])
        for number in np.flatnonzero(np.diff(bounds)).tolist():
            self._append(number, records[bounds[number] : bounds[number + 1]])

    def parts(self) -> Iterator[NDArray[Any]]:
        """Every part that holds something, as a structured array sorted by hash (stable)."""
        for number in range(2**self._bits):
            path = self._path(number)
            if path.is_file():
                records = np.fromfile(path, dtype=self._type)
                yield records[np.argsort(records["hash"], kind="stable")]

    def _append(self, number: int, records: NDArray[Any]) -> None:
        with self._path(number).open("ab") as file:
            file.write(records.tobytes())

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:04}.bin"


def distinct(records: NDArray[Any], column: str) -> NDArray[Any]:
    """Distinct (hash, column) pairs, sorted by hash, then by the column."""
    records = records[np.lexsort((records[column], records["hash"]))]
    hashes, values = records["hash"], records[column]
    new = np.ones(len(records), dtype=bool)
    new[1:] = (hashes[1:] != hashes[:-1]) | (values[1:] != values[:-1])
    return records[new]


def group_starts(sorted_values: NDArray[Any]) -> NDArray[np.int64]:
    """Places at which a run of equal values begins."""
    if len(sorted_values) == 0:
        return np.empty(0, dtype=np.int64)
    new = sorted_values[1:] != sorted_values[:-1]
    return np.concatenate([[0], np.flatnonzero(new) + 1]).astype(np.int64)


def blocks(count: int, size: int) -> Iterator[range]:
    """[0, count) in runs of at most ``size``."""
    for begin in range(0, count, size):
        yield range(begin, min(count, begin + size))
