"""Near-duplicate clusters of sources: what must not be torn apart by the splits.

Two sources are joined when their documents share a run of ``join_ngram`` tokens, or when two of
their contexts have a Jaccard similarity of shingles of at least ``join_jaccard``; joining is
transitive. Boilerplate (a licence, a mail footer) could join half a corpus that way: then the
runs and shingles that stand in the most sources stop counting, step by step, until no cluster of
several sources is above the limit. What such runs touch is left to the leak gate, and reported.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components

from services.activation.index.config import IndexConfig
from services.activation.index.hashing import UInts, ngram_hashes
from services.activation.index.layout import Documents, Ints, Layout

_WIDEST_SHINGLE = 200
"""Shingles in more contexts are not compared pairwise: pairs grow with the square."""


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
        first: dict[int, str] = {}
        for source, cluster in enumerate(self.source_cluster.tolist()):
            first.setdefault(cluster, self.source_names[source])
        return [first[cluster] for cluster in range(len(first))]


def find_clusters(layout: Layout, documents: Documents, config: IndexConfig) -> Clusters:
    """Cluster the sources of a corpus; the result depends on nothing but the arguments."""
    names = tuple(sorted(set(documents.sources)))
    number = {name: index for index, name in enumerate(names)}
    document_source = np.array([number[name] for name in documents.sources], dtype=np.int64)
    source_tokens = np.bincount(
        document_source, weights=np.diff(layout.document_offsets), minlength=len(names)
    )
    total = max(1.0, float(source_tokens.sum()))
    shared = _SharedRuns.find(layout, document_source, config)
    shingles = _Shingles.find(layout, document_source, config)

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
    """Pairs of sources that share a run of tokens, and in how many sources that run stands."""

    left: Ints
    right: Ints
    spread: Ints

    @property
    def widest(self) -> int:
        return int(self.spread.max()) if len(self.spread) else 1

    def edges(self, widest: int) -> tuple[Ints, Ints]:
        """Pairs joined by runs in at most ``widest`` sources (0: all)."""
        kept = self.spread <= widest if widest else np.ones(len(self.spread), dtype=bool)
        return self.left[kept], self.right[kept]

    @staticmethod
    def find(layout: Layout, document_source: Ints, config: IndexConfig) -> _SharedRuns:
        hashes, document = document_ngrams(layout, config.join_ngram)
        hashes, sources = _unique_pairs(hashes, document_source[document])
        same = hashes[1:] == hashes[:-1]
        run = np.concatenate([[0], np.cumsum(~same)]) if len(hashes) else np.empty(0, np.int64)
        spread = np.bincount(run)[run[1:][same]] if len(run) else np.empty(0, np.int64)
        return _SharedRuns(sources[:-1][same], sources[1:][same], spread.astype(np.int64))


def document_ngrams(layout: Layout, n: int) -> tuple[UInts, Ints]:
    """Hashes of all n-grams that lie within one document, and the document of each."""
    hashes = ngram_hashes(layout.tokens, n)
    document = np.repeat(
        np.arange(len(layout.document_offsets) - 1), np.diff(layout.document_offsets)
    )
    inside = document[: len(hashes)] == document[n - 1 : n - 1 + len(hashes)]
    return hashes[inside], document[: len(hashes)][inside]


@dataclass(frozen=True)
class _Shingles:
    """Distinct (context, shingle) pairs of a corpus, and how common each shingle is."""

    context: Ints
    column: Ints
    """Number of the pair's shingle."""
    context_spread: Ints
    """[shingles] contexts that hold it."""
    source_spread: Ints
    """[shingles] sources that hold it."""
    context_source: Ints

    @property
    def uncompared_count(self) -> int:
        return int((self.context_spread > _WIDEST_SHINGLE).sum())

    def edges(self, widest: int, jaccard: float) -> tuple[Ints, Ints]:
        """Pairs of sources with two contexts that are alike, by shingles in at most ``widest``
        sources (0: all)."""
        counted = (self.source_spread <= widest) if widest else self.source_spread > 0
        sizes = np.bincount(self.context[counted[self.column]], minlength=len(self.context_source))
        compared = counted & (self.context_spread > 1) & (self.context_spread <= _WIDEST_SHINGLE)
        kept = compared[self.column]
        shape = (len(self.context_source), len(compared))
        ones = np.ones(int(kept.sum()), dtype=np.int32)
        incidence: Any = csr_matrix((ones, (self.context[kept], self.column[kept])), shape=shape)
        common = (incidence @ incidence.T).tocoo()
        union = sizes[common.row] + sizes[common.col] - common.data
        close = (common.row < common.col) & (common.data >= jaccard * union)
        return self.context_source[common.row[close]], self.context_source[common.col[close]]

    @staticmethod
    def find(layout: Layout, document_source: Ints, config: IndexConfig) -> _Shingles:
        hashes, contexts = _unique_pairs(*_context_shingles(layout, config.shingle_ngram))
        _, column, spread = np.unique(hashes, return_inverse=True, return_counts=True)
        context_source = document_source[layout.context_document]
        by_source, _ = _unique_pairs(hashes, context_source[contexts])
        _, source_spread = np.unique(by_source, return_counts=True)
        return _Shingles(contexts, column, spread, source_spread, context_source)


def _context_shingles(layout: Layout, n: int) -> tuple[UInts, Ints]:
    hashes = ngram_hashes(layout.tokens, n)
    count = np.maximum(0, layout.context_length - n + 1)
    context = np.repeat(np.arange(layout.context_count), count)
    within = np.arange(len(context)) - np.repeat(np.cumsum(count) - count, count)
    return hashes[layout.context_start[context] + within], context


def _unique_pairs(hashes: UInts, owner: Ints) -> tuple[UInts, Ints]:
    """Distinct (hash, owner) pairs, sorted by hash, then owner."""
    order = np.lexsort((owner, hashes))
    hashes, owner = hashes[order], owner[order]
    if len(hashes) == 0:
        return hashes, owner
    new = np.concatenate([[True], (hashes[1:] != hashes[:-1]) | (owner[1:] != owner[:-1])])
    return hashes[new], owner[new]


def _components(count: int, edges: list[tuple[Ints, Ints]]) -> NDArray[np.int64]:
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
