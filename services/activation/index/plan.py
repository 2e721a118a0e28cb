"""Everything about an index that is known before the model runs: layout, splits, panel, batches.

A plan follows from corpus, tokenizer and configuration alone, so every indexer can make it for
itself and they all agree; saving it saves the seconds of making it again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from services.activation.encoder.identity import Fingerprints
from services.activation.encoder.tokenizer import TextTokenizer
from services.activation.index.clusters import ClusterReport, find_clusters
from services.activation.index.config import IndexConfig, Split, index_key
from services.activation.index.corpus import Corpus
from services.activation.index.hashing import priorities
from services.activation.index.layout import Documents, Ints, Layout, join_rows, lay_out
from services.activation.index.splits import (
    Bytes,
    SplitReport,
    assign_documents,
    gate_windows,
    report_splits,
)
from services.common.errors import FailedPrecondition, InvalidArgument

_PANEL_SALT = 0x70616E656C


@dataclass(frozen=True)
class IndexPlan:
    """See the module's docstring."""

    key: str
    config: IndexConfig
    fingerprints: Fingerprints
    corpus_fingerprint: str
    bos_token_id: int
    layout: Layout
    documents: Documents
    document_split: Bytes
    """[documents]"""
    window_split: Bytes
    """[windows] split, or ``EXCLUDED``."""
    panel_windows: Ints
    """Windows of the random panel, ascending."""
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


def make_plan(
    corpus: Corpus, tokenizer: TextTokenizer, fingerprints: Fingerprints, config: IndexConfig
) -> IndexPlan:
    """Tokenise, cut, cluster, split and gate a corpus.

    Raises:
        InvalidArgument: A split would hold no window: the corpus has too few sources.
    """
    documents = Documents(
        ids=tuple(document.id for document in corpus.documents),
        sources=tuple(document.source for document in corpus.documents),
        kinds=tuple(document.kind for document in corpus.documents),
    )
    tokens, offsets = join_rows(tokenizer.content_ids([d.text for d in corpus.documents]))
    layout = lay_out(tokens, offsets, config)
    clusters = find_clusters(layout, documents, config)
    document_split = assign_documents(layout, documents, clusters, config)
    window_split = gate_windows(layout, document_split, config)
    _check_populations(window_split)
    return IndexPlan(
        key=index_key(fingerprints.as_dict(), corpus.fingerprint, config),
        config=config,
        fingerprints=fingerprints,
        corpus_fingerprint=corpus.fingerprint,
        bos_token_id=tokenizer.bos_token_id,
        layout=layout,
        documents=documents,
        document_split=document_split,
        window_split=window_split,
        panel_windows=draw_panel(window_split, config),
        cluster_report=clusters.report,
        split_report=report_splits(layout, documents, document_split, window_split),
    )


def draw_panel(window_split: Bytes, config: IndexConfig) -> Ints:
    """Random windows of every population, by hash of the window's number."""
    windows = np.arange(len(window_split), dtype=np.int64)
    order = np.argsort(priorities(config.seed ^ _PANEL_SALT, windows), kind="stable")
    chosen = [
        windows[order][window_split[order] == split][: config.panel_counts[split]]
        for split in Split
    ]
    panel: Ints = np.sort(np.concatenate(chosen))
    return panel


def save_plan(plan: IndexPlan, folder: Path) -> None:
    """Write a plan as ``plan.npz`` and ``plan.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {
        "tokens": plan.layout.tokens,
        "document_offsets": plan.layout.document_offsets,
        "document_split": plan.document_split,
        "window_split": plan.window_split,
    }
    np.savez(folder / "plan.npz", allow_pickle=False, **arrays)  # type: ignore[arg-type]
    temporary = folder / "plan.json.tmp"
    temporary.write_text(json.dumps(plan_facts(plan)))
    temporary.replace(folder / "plan.json")  # last, so that a plan is whole or not there


def load_plan(folder: Path) -> IndexPlan:
    """Read what :func:`save_plan` wrote.

    Raises:
        FailedPrecondition: ARTIFACT_CORRUPT where there is none, or not a whole one.
    """
    try:
        facts: dict[str, Any] = json.loads((folder / "plan.json").read_text())
        with np.load(folder / "plan.npz", allow_pickle=False) as arrays:
            config = IndexConfig.from_dict(facts["config"])
            return restore_plan(facts, config, {name: arrays[name] for name in arrays.files})
    except (OSError, ValueError, KeyError) as error:
        message = f"no usable plan in {folder}: {error}"
        raise FailedPrecondition(message, reason="ARTIFACT_CORRUPT") from error


def restore_plan(facts: dict[str, Any], config: IndexConfig, arrays: dict[str, Any]) -> IndexPlan:
    """A plan from its stored facts and arrays; everything else follows from them."""
    layout = lay_out(arrays["tokens"], arrays["document_offsets"].astype(np.int64), config)
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
