"""Running the model over a corpus, chunk by chunk.

A chunk is a fixed run of contexts; its contexts are batched in one fixed way, whatever shard the
chunk belongs to. So the bytes of an index do not depend on how many shards it was swept in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from services.activation.encoder.rows import SparseRow, TokenRow
from services.activation.index.partial import Partial, join_partials, partial_of
from services.activation.index.plan import IndexPlan
from services.activation.index.records import Records, collect

_RECORDS_PER_FOLD = 1_500_000
"""Records gathered before they are folded into the part: bounds memory, not the result."""


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
    *,
    clock: Callable[[], float],
    report: Callable[[Progress], None],
) -> Partial:
    """Encode some chunks and collect their part of the index.

    Args:
        plan: The plan.
        encoder: Model and SAE; its fingerprints must be the plan's.
        chunks: Numbers of the chunks, without repeats.
        clock: Seconds, monotonic; for the speed that is reported.
        report: Called at the start and after every batch.
    """
    wanted = sorted(chunks)
    total = sum(chunk_tokens(plan, chunk) for chunk in wanted)
    started, done = clock(), 0
    report(Progress(0, total, 0.0))
    part = Partial.empty(plan, encoder.feature_count, wanted)
    gathered: list[Records] = []
    for chunk in wanted:
        for contexts in chunk_batches(plan, chunk):
            rows = [context_row(plan, context) for context in contexts]
            encoded = encoder.encode_sparse(rows)
            gathered.append(collect(plan.layout, contexts, encoded, plan.config.window_token_count))
            if sum(len(records) for records in gathered) >= _RECORDS_PER_FOLD:
                part, gathered = _fold(plan, part, gathered), []
            done += sum(len(row) - 1 for row in rows)
            seconds = clock() - started
            report(Progress(done, total, done / seconds if seconds > 0 else 0.0))
    return _fold(plan, part, gathered)


def chunk_batches(plan: IndexPlan, chunk: int) -> list[list[int]]:
    """Contexts of one chunk in batches: longest first, under the token budget of the plan."""
    lengths = plan.layout.context_length
    order = sorted(plan.chunk_contexts(chunk), key=lambda context: (-lengths[context], context))
    batches: list[list[int]] = []
    for context in order:
        longest = int(lengths[batches[-1][0]]) + 1 if batches else 0
        if not batches or (len(batches[-1]) + 1) * longest > plan.config.batch_token_budget:
            batches.append([])
        batches[-1].append(context)
    return batches


def chunk_tokens(plan: IndexPlan, chunk: int) -> int:
    """Tokens of one chunk, first tokens not counted."""
    contexts = plan.chunk_contexts(chunk)
    return int(plan.layout.context_length[contexts.start : contexts.stop].sum())


def context_row(plan: IndexPlan, context: int) -> TokenRow:
    """One context as the model reads it: the first token, then its tokens."""
    start = int(plan.layout.context_start[context])
    stop = start + int(plan.layout.context_length[context])
    return np.concatenate([[plan.bos_token_id], plan.layout.tokens[start:stop]]).astype(np.int64)


def _fold(plan: IndexPlan, part: Partial, gathered: list[Records]) -> Partial:
    if not gathered:
        return part
    return join_partials(plan, [part, partial_of(plan, part.feature_count, Records.join(gathered))])
