"""Everything about an index that is known before the model runs: layout, splits, panel, batches.

A plan follows from corpus, tokenizer and configuration alone, so every indexer can make it for
itself and they all agree; saving it saves the seconds of making it again.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from services.activation.encoder.identity import Fingerprints
from services.activation.encoder.tokenizer import TextTokenizer
from services.activation.index.clusters import ClusterReport, find_clusters
from services.activation.index.config import IndexConfig, Split, index_key
from services.activation.index.corpora.documents import DocumentReader
from services.activation.index.corpus import Corpus
from services.activation.index.gate import gate_windows
from services.activation.index.hashing import priorities
from services.activation.index.layout import (
    Bytes,
    Documents,
    Ints,
    Layout,
    lay_out,
    lay_out_on_disk,
    map_layout,
)
from services.activation.index.splits import SplitReport, assign_documents, report_splits
from services.activation.index.spool import blocks
from services.activation.index.tokenise import TOKENS, TokenFile, map_tokens, tokenise
from services.common.errors import Cancelled, FailedPrecondition, InvalidArgument

_PANEL_SALT, _POOL_SALT = 0x70616E656C, 0x706F6F6C
_BLOCK_WINDOWS = 2**16
_ARRAYS = ("document_offsets", "document_split", "window_split")
PLAN = "plan.json"


@dataclass(frozen=True)
class IndexPlan:
    """See the module's docstring."""

    key: str
    config: IndexConfig
    fingerprints: Fingerprints
    corpus_fingerprint: str
    bos_token_id: int
    """Put in front of every context; -1 where nothing is."""
    layout: Layout
    documents: Documents
    document_split: Bytes
    """[documents]"""
    window_split: Bytes
    """[windows] split, or ``EXCLUDED``."""
    panel_windows: Ints
    """Windows of the random panel, ascending."""
    pool_windows: Ints
    """Windows that near misses are looked for in, ascending."""
    cluster_report: ClusterReport
    split_report: SplitReport

    @property
    def chunk_count(self) -> int:
        """Chunks of ``chunk_context_count`` contexts: the units that shards are made of."""
        return -(-self.layout.context_count // self.config.chunk_context_count)

    @property
    def token_count(self) -> int:
        """Tokens of the corpus, first tokens not included."""
        return len(self.layout.tokens)

    def chunk_contexts(self, chunk: int) -> range:
        """Contexts of one chunk."""
        size = self.config.chunk_context_count
        return range(chunk * size, min(self.layout.context_count, (chunk + 1) * size))

    def shard_chunks(self, shard: int, shard_count: int) -> range:
        """Chunks of one shard: contiguous, disjoint over shards, together all of them."""
        if not 0 <= shard < shard_count:
            raise InvalidArgument(f"shard must be in [0, {shard_count})", field="shard")
        bounds = [self.chunk_count * place // shard_count for place in (shard, shard + 1)]
        return range(bounds[0], bounds[1])


@dataclass(frozen=True)
class ReadCorpus:
    """A corpus read and tokenised into a folder; the index's key is known from here on."""

    key: str
    fingerprint: str
    bos_token_id: int
    written: TokenFile
    documents: Documents
    folder: Path


def read_into(
    corpus: Corpus | DocumentReader,
    tokenizer: TextTokenizer,
    fingerprints: Fingerprints,
    config: IndexConfig,
    folder: Path,
    cancelled: Callable[[], bool] = lambda: False,
) -> ReadCorpus:
    """Tokenise a corpus into an empty folder. Errors: as for :func:`make_plan`."""
    written, documents = tokenise(corpus, tokenizer, folder, cancelled)
    key = index_key(fingerprints.as_dict(), corpus.fingerprint, config)
    bos = tokenizer.bos_token_id if config.skipped_token_count == 0 else -1
    return ReadCorpus(key, corpus.fingerprint, bos, written, documents, folder)


def plan_corpus(
    read: ReadCorpus,
    fingerprints: Fingerprints,
    config: IndexConfig,
    cancelled: Callable[[], bool] = lambda: False,
) -> IndexPlan:
    """Cut, cluster, split and gate. Errors: as for :func:`make_plan`."""
    folder, documents = read.folder, read.documents
    layout = lay_out_on_disk(read.written.tokens, read.written.document_offsets, config, folder)
    with _scratch(folder, cancelled) as scratch:
        clusters = find_clusters(layout, documents, config, scratch)
    document_split = assign_documents(layout, documents, clusters, config)
    with _scratch(folder, cancelled) as scratch:
        window_split = gate_windows(layout, document_split, config, scratch)
    _check_populations(window_split)
    return IndexPlan(
        key=read.key,
        config=config,
        fingerprints=fingerprints,
        corpus_fingerprint=read.fingerprint,
        bos_token_id=read.bos_token_id,
        layout=layout,
        documents=documents,
        document_split=document_split,
        window_split=window_split,
        panel_windows=draw_panel(window_split, config),
        pool_windows=draw_pool(window_split, config),
        cluster_report=clusters.report,
        split_report=report_splits(layout, documents, document_split, window_split),
    )


def make_plan(
    corpus: Corpus | DocumentReader,
    tokenizer: TextTokenizer,
    fingerprints: Fingerprints,
    config: IndexConfig,
    folder: Path,
    cancelled: Callable[[], bool] = lambda: False,
) -> IndexPlan:
    """Tokenise, cut, cluster, split and gate a corpus.

    Args:
        folder: An empty folder; tokens and layout stay in it, mapped by the plan, and scratch
            files come and go. Memory holds what :mod:`layout` says, not the corpus.
        cancelled: Asked between two steps.

    Raises:
        InvalidArgument: A split would hold no window: the corpus has too few sources; or what
            reading the corpus raises.
        Cancelled: ``cancelled`` said so.
    """
    read = read_into(corpus, tokenizer, fingerprints, config, folder, cancelled)
    return plan_corpus(read, fingerprints, config, cancelled)


@contextmanager
def _scratch(folder: Path, cancelled: Callable[[], bool]) -> Iterator[Path]:
    if cancelled():
        raise Cancelled("the index is no longer wanted")
    with tempfile.TemporaryDirectory(prefix="scratch-", dir=folder) as scratch:
        yield Path(scratch)


def draw_panel(window_split: Bytes, config: IndexConfig) -> Ints:
    """Random windows of every population, by hash of the window's number."""
    drawn = draw_windows(window_split, config.panel_counts, config.seed ^ _PANEL_SALT)
    panel: Ints = np.sort(np.concatenate(drawn))
    return panel


def draw_pool(window_split: Bytes, config: IndexConfig) -> Ints:
    """Random windows of every population, others than the panel's but for chance."""
    drawn = draw_windows(window_split, config.pool_counts, config.seed ^ _POOL_SALT)
    pool: Ints = np.sort(np.concatenate(drawn))
    return pool


def draw_windows(window_split: Bytes, counts: tuple[int, ...], seed: int) -> list[Ints]:
    """Per split the ``counts[split]`` windows of lowest hash, ascending."""
    drawn = [np.empty(0, np.int64) for _ in Split]
    for block in blocks(len(window_split), _BLOCK_WINDOWS):
        windows = np.arange(block.start, block.stop, dtype=np.int64)
        for split in Split:
            mine = windows[window_split[block.start : block.stop] == split]
            mine = np.concatenate([drawn[split], mine])
            order = np.argsort(priorities(seed, mine), kind="stable")
            drawn[split] = np.sort(mine[order[: counts[split]]])
    return drawn


def save_plan(plan: IndexPlan, folder: Path) -> None:
    """Write a plan beside the tokens and the layout that :func:`make_plan` left in ``folder``."""
    for name in _ARRAYS:
        array = plan.layout.document_offsets if name == "document_offsets" else getattr(plan, name)
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    temporary = folder / "plan.json.tmp"
    temporary.write_text(json.dumps(plan_facts(plan)))
    temporary.replace(folder / PLAN)  # last, so that a plan is whole or not there


def load_plan(folder: Path) -> IndexPlan:
    """Read what :func:`save_plan` wrote; tokens and layout are mapped.

    Raises:
        FailedPrecondition: ARTIFACT_CORRUPT where there is none, or not a whole one.
    """
    try:
        facts: dict[str, Any] = json.loads((folder / PLAN).read_text())
        arrays = {name: np.load(folder / f"{name}.npy", allow_pickle=False) for name in _ARRAYS}
        config = IndexConfig.from_dict(facts["config"])
        offsets = arrays.pop("document_offsets")
        layout = map_layout(map_tokens(folder / TOKENS), offsets, folder)
        return _restored(facts, config, layout, arrays)
    except (OSError, ValueError, KeyError) as error:
        message = f"no usable plan in {folder}: {error}"
        raise FailedPrecondition(message, reason="ARTIFACT_CORRUPT") from error


def restore_plan(facts: dict[str, Any], config: IndexConfig, arrays: dict[str, Any]) -> IndexPlan:
    """A plan from its stored facts and arrays; everything else follows from them."""
    tokens = np.asarray(arrays["tokens"], dtype=np.int32)
    layout = lay_out(tokens, arrays["document_offsets"].astype(np.int64), config)
    return _restored(facts, config, layout, arrays)


def _restored(
    facts: dict[str, Any], config: IndexConfig, layout: Layout, arrays: dict[str, Any]
) -> IndexPlan:
    documents = Documents.from_dict(facts["documents"])
    split, window_split = arrays["document_split"], arrays["window_split"]
    return IndexPlan(
        key=facts["key"],
        config=config,
        fingerprints=Fingerprints(**facts["fingerprints"]),
        corpus_fingerprint=facts["corpus_fingerprint"],
        bos_token_id=facts["bos_token_id"],
        layout=layout,
        documents=documents,
        document_split=split,
        window_split=window_split,
        panel_windows=draw_panel(window_split, config),
        pool_windows=draw_pool(window_split, config),
        cluster_report=ClusterReport(**facts["cluster_report"]),
        split_report=report_splits(layout, documents, split, window_split),
    )


def _check_populations(window_split: Bytes) -> None:
    empty = [split.name for split in Split if not (window_split == split).any()]
    if empty:
        message = f"no window is left for {', '.join(empty)}: the corpus has too few sources"
        raise InvalidArgument(message, field="corpus")


def plan_facts(plan: IndexPlan) -> dict[str, Any]:
    """The JSON side of a plan, as :func:`restore_plan` takes it."""
    return {
        "key": plan.key,
        "config": plan.config.as_dict(),
        "fingerprints": plan.fingerprints.as_dict(),
        "corpus_fingerprint": plan.corpus_fingerprint,
        "bos_token_id": plan.bos_token_id,
        "documents": plan.documents.as_dict(),
        "cluster_report": plan.cluster_report.as_dict(),
    }
