"""Near-duplicate clusters of sources: what must not be torn apart by the splits.

Two sources are joined when their documents share a run of ``join_ngram`` tokens, or when two of
their contexts have a Jaccard similarity of shingles of at least ``join_jaccard``; joining is
transitive. Boilerplate (a licence, a mail footer) could join half a corpus that way: then the
runs and shingles that stand in the most sources stop counting, step by step, until no cluster of
several sources is above the limit. What such runs touch is left to the leak gate, and reported.

Runs and shingles are compared on disk (:mod:`spool`): memory holds a few bytes per document and
context, and the pairs that were found alike. The scratch folder takes 24 bytes per token, and 20
per pair of contexts that share a shingle.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from services.activation.index.config import IndexConfig
from services.activation.index.layout import Documents, Ints, Layout
from services.activation.index.ngrams import document_ngrams
from services.activation.index.shingles import Shingles
from services.activation.index.spool import Spool, distinct, group_starts

Edges = tuple[Ints, Ints]
"""Pairs of sources: left and right ends."""


@dataclass(frozen=True)
class ClusterReport:
    """What clustering did, for the manifest."""

    source_count: int
    cluster_count: int
    joined_source_count: int
    """Sources that share their cluster with another one."""
    largest_cluster_share: float
    """Share of all tokens in the largest cluster of several sources."""
    largest_source_share: float
    """Share of all tokens in the largest source; it cannot be divided."""
    widest_joining_ngram: int
    """Runs of tokens in more sources than this did not join; 0 says that all of them did."""
    uncompared_shingle_count: int
    """Shingles in so many contexts that pairs of these were not compared by them."""

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready mapping."""
        return asdict(self)


@dataclass(frozen=True)
class Clusters:
    """Sources and the cluster of each."""

    source_names: tuple[str, ...]
    """Sorted; index is the source's number."""
    document_source: Ints
    """[documents] source number."""
    source_cluster: Ints
    """[sources] cluster number, dense from 0 in order of the cluster's first source."""
    report: ClusterReport

    @property
    def document_cluster(self) -> Ints:
        """[documents] cluster number."""
        clusters: Ints = self.source_cluster[self.document_source]
        return clusters

    def names(self) -> list[str]:
        """Per cluster the name that its split is drawn by: its first source."""
        _, first = np.unique(self.source_cluster, return_index=True)
        return [self.source_names[source] for source in first.tolist()]


def find_clusters(
    layout: Layout, documents: Documents, config: IndexConfig, scratch: Path
) -> Clusters:
    """Cluster the sources of a corpus; the result depends on nothing but corpus and configuration.

    Args:
        scratch: An empty folder; what is left in it may be removed.
    """
    names = tuple(sorted(set(documents.sources)))
    number = {name: index for index, name in enumerate(names)}
    document_source = np.array([number[name] for name in documents.sources], dtype=np.int64)
    source_tokens = np.bincount(
        document_source, weights=np.diff(layout.document_offsets), minlength=len(names)
    )
    total = max(1.0, float(source_tokens.sum()))
    shared = _SharedRuns.find(layout, document_source, config, scratch / "runs")
    shingles = Shingles.find(layout, document_source, config, scratch / "shingles")

    widest = 0
    while True:
        edges = [shared.edges(widest), shingles.edges(widest, config.join_jaccard)]
        labels = _components(len(names), edges)
        several = np.bincount(labels)[labels] > 1
        sizes = np.bincount(labels, weights=source_tokens * several)
        share = float(sizes.max()) / total
        if share <= config.max_cluster_share or widest == 1:
            break
        widest = max(1, (widest or shared.widest) // 2)
    report = ClusterReport(
        source_count=len(names),
        cluster_count=int(labels.max()) + 1,
        joined_source_count=int(several.sum()),
        largest_cluster_share=round(share, 6),
        largest_source_share=round(float(source_tokens.max()) / total, 6),
        widest_joining_ngram=widest,
        uncompared_shingle_count=shingles.uncompared_count,
    )
    return Clusters(names, document_source, labels, report)


@dataclass(frozen=True)
class _SharedRuns:
    """Pairs of sources that share a run of tokens, and the fewest sources such a run stands in."""

    left: Ints
    right: Ints
    spread: Ints
    widest: int
    """Sources of the run that stands in the most of them."""

    def edges(self, widest: int) -> Edges:
        """Pairs joined by runs in at most ``widest`` sources (0: all)."""
        kept = self.spread <= widest if widest else np.ones(len(self.spread), dtype=bool)
        return self.left[kept], self.right[kept]

    @staticmethod
    def find(
        layout: Layout, document_source: Ints, config: IndexConfig, scratch: Path
    ) -> _SharedRuns:
        spool = Spool(scratch, len(layout.tokens), {"source": "<u4"})
        for ngrams in document_ngrams(layout, config.join_ngram):
            spool.add(ngrams.hashes, source=document_source[ngrams.documents])
        found, widest = [np.empty((0, 3), np.int64)], 1
        for part in spool.parts():
            pairs = distinct(part, "source")
            starts = group_starts(pairs["hash"])
            sizes = np.diff(np.concatenate([starts, [len(pairs)]]))
            widest = max(widest, int(sizes.max(initial=1)))
            same = np.repeat(sizes, sizes)[1:] * (pairs["hash"][1:] == pairs["hash"][:-1])
            shared = np.flatnonzero(same)
            source = pairs["source"].astype(np.int64)
            rows = np.stack([source[shared], source[shared + 1], same[shared]], axis=1)
            found = [_narrowest(np.concatenate([*found, rows]))]
        left, right, spread = found[0].T
        return _SharedRuns(left, right, spread, widest)


def _narrowest(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of (left, right, spread) rows one per pair, with its smallest spread."""
    rows = rows[np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))]
    first = np.ones(len(rows), dtype=bool)
    first[1:] = (rows[1:, :2] != rows[:-1, :2]).any(axis=1)
    return rows[first]


def _components(count: int, edges: list[Edges]) -> NDArray[np.int64]:
    """Connected components, numbered in order of their lowest member."""
    left = np.concatenate([pair[0] for pair in edges])
    right = np.concatenate([pair[1] for pair in edges])
    ones = np.ones(len(left), dtype=np.int8)
    graph = coo_matrix((ones, (left, right)), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))
    numbered: NDArray[np.int64] = order[inverse].astype(np.int64)
    return numbered
