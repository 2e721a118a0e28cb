"""Dividing a corpus: whole clusters go to one split, and the leak gate guards what is left.

Clusters are drawn in an order that depends on seed and name only, large ones first, and each
goes to the split with the most room left, kind by kind. After that, a SELECT window is
left out of its population when any run of ``leak_ngram`` tokens that overlaps it also stands in
EXPLAIN, a HELDOUT window when it stands in EXPLAIN or SELECT.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.activation.index.clusters import Clusters, document_ngrams
from services.activation.index.config import SPLIT_COUNT, IndexConfig, Split
from services.activation.index.hashing import ngram_hashes, text_hash
from services.activation.index.layout import Documents, Ints, Layout

EXCLUDED = 255
"""Split of a window that the leak gate left out."""

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class SplitReport:
    """Sizes after splitting; tuples are in the order of :class:`Split`."""

    token_shares: tuple[float, ...]
    """Share of all tokens, leaked windows included."""
    kind_token_shares: dict[str, tuple[float, ...]]
    """The same within each kind of text."""
    window_counts: tuple[int, ...]
    """Windows in the populations: those that the gate let in."""
    scored_token_counts: tuple[int, ...]
    """Tokens of those windows."""
    leaked_window_counts: tuple[int, ...]
    """Windows that the gate left out."""

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready mapping."""
        return asdict(self)


def assign_documents(
    layout: Layout, documents: Documents, clusters: Clusters, config: IndexConfig
) -> Bytes:
    """[documents] split of each document, by cluster."""
    kinds = sorted(set(documents.kinds))
    kind_number = {kind: index for index, kind in enumerate(kinds)}
    document_kind = np.array([kind_number[kind] for kind in documents.kinds], dtype=np.int64)
    cluster_names = clusters.names()
    tokens = np.zeros((len(cluster_names), len(kinds)))
    lengths = np.diff(layout.document_offsets)
    np.add.at(tokens, (clusters.document_cluster, document_kind), lengths)

    totals = np.maximum(1, tokens.sum(axis=0))
    wanted = np.outer(config.split_shares, totals)
    given = np.zeros((SPLIT_COUNT, len(kinds)))
    split = np.zeros(len(cluster_names), dtype=np.uint8)
    for cluster in _drawing_order(cluster_names, tokens.sum(axis=1), config.seed):
        room = (wanted - given) / totals
        split[cluster] = int(np.argmax(room @ tokens[cluster]))
        given[split[cluster]] += tokens[cluster]
    assigned: Bytes = split[clusters.document_cluster]
    return assigned


def gate_windows(layout: Layout, document_split: Bytes, config: IndexConfig) -> Bytes:
    """[windows] split of each window, or ``EXCLUDED`` where the leak gate closes."""
    leaking = _leaking_starts(layout, document_split, config.leak_ngram)
    before = np.concatenate([[0], np.cumsum(leaking)])
    # Runs that overlap a window begin from leak_ngram - 1 tokens before it to its last token.
    first = np.maximum(0, layout.window_start - config.leak_ngram + 1)
    behind = np.minimum(len(leaking), layout.window_start + layout.window_length)
    leaks = before[behind] > before[np.minimum(first, behind)]
    split = document_split[layout.window_document].copy()
    split[leaks] = EXCLUDED
    return split


def report_splits(
    layout: Layout, documents: Documents, document_split: Bytes, window_split: Bytes
) -> SplitReport:
    """Count what the splits hold."""
    lengths = np.diff(layout.document_offsets)
    kinds = np.array(documents.kinds)
    leaked = window_split == EXCLUDED
    owner = document_split[layout.window_document]
    return SplitReport(
        token_shares=_shares(document_split, lengths),
        kind_token_shares={
            kind: _shares(document_split[kinds == kind], lengths[kinds == kind])
            for kind in sorted(set(documents.kinds))
        },
        window_counts=tuple(int((window_split == split).sum()) for split in Split),
        scored_token_counts=tuple(
            int(layout.window_length[window_split == split].sum()) for split in Split
        ),
        leaked_window_counts=tuple(int((leaked & (owner == split)).sum()) for split in Split),
    )


def _drawing_order(names: Sequence[str], sizes: NDArray[np.float64], seed: int) -> list[int]:
    """By power of two of the size, largest first, then by hash."""
    magnitude = np.frexp(sizes)[1]
    return sorted(
        range(len(names)), key=lambda c: (-int(magnitude[c]), text_hash(seed, names[c]), names[c])
    )


def _leaking_starts(layout: Layout, document_split: Bytes, n: int) -> NDArray[np.bool_]:
    """For every place of the token array: does a run that begins there leak into its own split?"""
    hashes, document = document_ngrams(layout, n)
    split = document_split[document]
    in_explain = np.isin(hashes, np.unique(hashes[split == Split.EXPLAIN]))
    in_select = np.isin(hashes, np.unique(hashes[split == Split.SELECT]))
    leaks = ((split == Split.SELECT) & in_explain) | (
        (split == Split.HELDOUT) & (in_explain | in_select)
    )
    starts = _ngram_starts(layout, n)
    leaking = np.zeros(len(layout.tokens), dtype=bool)
    leaking[starts[leaks]] = True
    return leaking


def _ngram_starts(layout: Layout, n: int) -> Ints:
    """Places of :func:`document_ngrams`, in its order."""
    count = len(ngram_hashes(layout.tokens, n))
    ends = np.repeat(layout.document_offsets[1:], np.diff(layout.document_offsets))
    places = np.arange(count, dtype=np.int64)
    starts: Ints = places[places + n <= ends[:count]]
    return starts


def _shares(split: Bytes, weights: Ints) -> tuple[float, ...]:
    totals = np.bincount(split, weights=weights, minlength=SPLIT_COUNT)
    return tuple(round(float(total), 6) for total in totals / max(1.0, float(totals.sum())))
