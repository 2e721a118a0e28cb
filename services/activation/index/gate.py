"""The leak gate: no window of a later split shares a run of tokens with an earlier one.

A SELECT window is left out of its population when any run of ``leak_ngram`` tokens that overlaps
it also stands in EXPLAIN, a HELDOUT window when it stands in EXPLAIN or SELECT. Runs are compared
on disk, 17 bytes per token; memory holds a few bytes per window.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.activation.index.config import EXCLUDED, IndexConfig, Split
from services.activation.index.layout import Bytes, Ints, Layout
from services.activation.index.ngrams import document_ngrams
from services.activation.index.spool import Spool, blocks, group_starts

_BLOCK_WINDOWS = 2**16


def gate_windows(
    layout: Layout, document_split: Bytes, config: IndexConfig, scratch: Path
) -> Bytes:
    """[windows] split of each window, or ``EXCLUDED`` where the leak gate closes."""
    spool = Spool(scratch, len(layout.tokens), {"place": "<i8", "split": "u1"})
    for ngrams in document_ngrams(layout, config.leak_ngram):
        split = document_split[ngrams.documents]
        spool.add(ngrams.hashes, place=ngrams.places, split=split)
    # Leaks that begin and end at each window, counted as steps up and down.
    steps = np.zeros(layout.window_count + 1, np.int32)
    for part in spool.parts():
        first, last = _overlapped(layout, _leaks(part), config.leak_ngram)
        np.add.at(steps, first, 1)
        np.add.at(steps, last + 1, -1)
    leaking = np.cumsum(steps[:-1]) > 0
    window_split = np.empty(layout.window_count, np.uint8)
    for block in blocks(layout.window_count, _BLOCK_WINDOWS):
        place = slice(block.start, block.stop)
        window_split[place] = document_split[layout.documents_of(layout.window_context[place])]
    window_split[leaking] = EXCLUDED
    return window_split


def _leaks(part: NDArray[Any]) -> Ints:
    """Places of the runs that also stand in an earlier split."""
    starts = group_starts(part["hash"])
    sizes = np.diff(np.concatenate([starts, [len(part)]]))
    split = part["split"]
    seen = [
        np.repeat(np.logical_or.reduceat(split == earlier, starts), sizes)
        for earlier in (Split.EXPLAIN, Split.SELECT)
    ]
    leaks = ((split == Split.SELECT) & seen[0]) | ((split == Split.HELDOUT) & (seen[0] | seen[1]))
    places: Ints = part["place"][leaks].astype(np.int64)
    return places


def _overlapped(layout: Layout, places: Ints, n: int) -> tuple[Ints, Ints]:
    """First and last window that each run of ``n`` tokens overlaps; runs in a gap are left out."""
    last = np.searchsorted(layout.window_start, places + n - 1, side="right") - 1
    before = np.searchsorted(layout.window_start, places, side="right") - 1
    inside = (before >= 0) & (
        places < layout.window_start[np.maximum(before, 0)] + layout.window_length[before]
    )
    first = np.where(inside, before, before + 1)
    kept = first <= last
    return first[kept], last[kept]
