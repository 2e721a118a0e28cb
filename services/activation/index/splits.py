"""Dividing a corpus: whole clusters go to one split.

Clusters are drawn in an order that depends on seed and name only, large ones first, and each
goes to the split with the most room left, kind by kind. What the splits then still share is left
to :mod:`gate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.activation.index.clusters import Clusters
from services.activation.index.config import EXCLUDED, SPLIT_COUNT, IndexConfig
from services.activation.index.hashing import text_hash
from services.activation.index.layout import Bytes, Documents, Ints, Layout
from services.activation.index.spool import blocks

_BLOCK_WINDOWS = 2**16


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


def report_splits(
    layout: Layout, documents: Documents, document_split: Bytes, window_split: Bytes
) -> SplitReport:
    """Count what the splits hold."""
    lengths = np.diff(layout.document_offsets)
    kinds = np.array(documents.kinds)
    windows = np.zeros(SPLIT_COUNT, np.int64)
    tokens, leaked = windows.copy(), windows.copy()
    for block in blocks(layout.window_count, _BLOCK_WINDOWS):
        place = slice(block.start, block.stop)
        split, length = window_split[place], layout.window_length[place]
        owner = document_split[layout.documents_of(layout.window_context[place])]
        inside = split != EXCLUDED
        windows += np.bincount(split[inside], minlength=SPLIT_COUNT)
        tokens += np.bincount(split[inside], length[inside], SPLIT_COUNT).astype(np.int64)
        leaked += np.bincount(owner[~inside], minlength=SPLIT_COUNT)
    return SplitReport(
        token_shares=_shares(document_split, lengths),
        kind_token_shares={
            kind: _shares(document_split[kinds == kind], lengths[kinds == kind])
            for kind in sorted(set(documents.kinds))
        },
        window_counts=tuple(windows.tolist()),
        scored_token_counts=tuple(tokens.tolist()),
        leaked_window_counts=tuple(leaked.tolist()),
    )


def _drawing_order(names: Sequence[str], sizes: NDArray[np.float64], seed: int) -> list[int]:
    """By power of two of the size, largest first, then by hash."""
    magnitude = np.frexp(sizes)[1]
    return sorted(
        range(len(names)), key=lambda c: (-int(magnitude[c]), text_hash(seed, names[c]), names[c])
    )


def _shares(split: Bytes, weights: Ints) -> tuple[float, ...]:
    totals = np.bincount(split, weights=weights, minlength=SPLIT_COUNT)
    return tuple(round(float(total), 6) for total in totals / max(1.0, float(totals.sum())))
