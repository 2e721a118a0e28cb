"""Running the model over a corpus, chunk by chunk.

A chunk is a fixed run of contexts; its contexts are batched in one fixed way, whatever shard the
chunk belongs to. So the bytes of an index do not depend on how many shards it was swept in.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from services.activation.encoder.rows import SparseRow, TokenRow
from services.activation.index.collector import Collector
from services.activation.index.folders import put_folder
from services.activation.index.partial import save_partial
from services.activation.index.plan import IndexPlan
from services.activation.index.records import collect


class SparseEncoder(Protocol):
    """Encodes token rows for one SAE, in a way that depends on nothing but the rows given."""

    @property
    def feature_count(self) -> int:
        """Features of the SAE."""
        ...

    def encode_sparse(self, rows: list[TokenRow]) -> list[SparseRow]:
        """All activations above zero; raises Cancelled when the sweep should stop."""
        ...


@dataclass(frozen=True)
class Progress:
    """How far a sweep has come."""

    done_tokens: int
    total_tokens: int
    tokens_per_second: float
    """Since the sweep began; 0 at the start."""


def sweep_chunks(
    plan: IndexPlan,
    encoder: SparseEncoder,
    chunks: Iterable[int],
    folder: Path,
    *,
    clock: Callable[[], float],
    report: Callable[[Progress], None],
) -> None:
    """Encode some chunks and leave their part of the index in ``folder``.

    Args:
        plan: The plan.
        encoder: Model and SAE; its fingerprints must be the plan's.
        chunks: Numbers of the chunks, without repeats.
        folder: A folder that is not there yet; it appears complete or not at all.
        clock: Seconds, monotonic; for the speed that is reported.
        report: Called at the start and after every batch.
    """
    wanted = sorted(chunks)
    total = sum(chunk_tokens(plan, chunk) for chunk in wanted)
    started, done = clock(), 0
    report(Progress(0, total, 0.0))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=folder.parent) as scratch:
        collector = Collector(plan, encoder.feature_count, Path(scratch))
        for batch in (batch for chunk in wanted for batch in chunk_batches(plan, chunk)):
            rows = [context_row(plan, context) for context in batch]
            encoded = encoder.encode_sparse(rows)
            collector.add(collect(plan.layout, batch, encoded, plan.config.window_token_count))
            done += int(plan.layout.context_length[batch].sum())
            seconds = clock() - started
            report(Progress(done, total, done / seconds if seconds > 0 else 0.0))
        save_partial(collector.result(wanted), Path(scratch))
        put_folder(Path(scratch), folder)


def chunk_batches(plan: IndexPlan, chunk: int) -> list[list[int]]:
    """Contexts of one chunk in batches: longest first, under the token budget of the plan."""
    contexts = plan.chunk_contexts(chunk)
    own = plan.layout.context_length[contexts.start : contexts.stop].tolist()
    lengths = dict(zip(contexts, own, strict=True))
    order = sorted(contexts, key=lambda context: (-lengths[context], context))
    batches: list[list[int]] = []
    for context in order:
        longest = lengths[batches[-1][0]] + 1 if batches else 0
        if not batches or (len(batches[-1]) + 1) * longest > plan.config.batch_token_budget:
            batches.append([])
        batches[-1].append(context)
    return batches


def chunk_tokens(plan: IndexPlan, chunk: int) -> int:
    """Tokens of one chunk, first tokens not counted."""
    contexts = plan.chunk_contexts(chunk)
    return int(plan.layout.context_length[contexts.start : contexts.stop].sum())


def context_row(plan: IndexPlan, context: int) -> TokenRow:
    """One context as the model reads it: the first token, if one is put there, then its own."""
    start = int(plan.layout.context_start[context])
    stop = start + int(plan.layout.context_length[context])
    first = [] if plan.bos_token_id < 0 else [plan.bos_token_id]
    return np.concatenate([first, plan.layout.tokens[start:stop]]).astype(np.int64)
