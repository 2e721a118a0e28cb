"""Cached activations are the computed ones, for exactly what was asked, and only if it worked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from services.activation.bootstrap import front
from services.activation.cache import CachedEngine, RowCache, row_keys
from services.activation.encoder.identity import Fingerprints
from services.activation.encoder.rows import DenseRow, SparseRow, TokenRow
from services.activation.registry import load_registry
from services.common.errors import InvalidArgument, Unavailable
from tests.activation import stack

WEIGHTS = Fingerprints("model", "sae", "tokenizer")


class Counting:
    """An engine whose values say what they were computed from."""

    tokens_per_second = 1.0

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.failure: BaseException | None = None

    async def encode(
        self, sae_id: str, rows: Sequence[TokenRow], features: Sequence[int]
    ) -> list[DenseRow]:
        self.asked.append(len(rows))
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        for index, row in enumerate(rows):
            if row.min() < 0:
                raise InvalidArgument("negative", field=f"rows[{index}]")
        return [np.outer(row, features).astype(np.float32) for row in rows]

    async def encode_sparse(self, sae_id: str, rows: Sequence[TokenRow]) -> list[SparseRow]:
        self.asked.append(len(rows))
        return [
            SparseRow(np.arange(len(row) + 1), row.astype(np.int32), row.astype(np.float32))
            for row in rows
        ]

    async def fingerprints(self, sae_id: str) -> Fingerprints:
        return Fingerprints("model", sae_id, "tokenizer")

    async def describe(self, sae_id: str) -> Any:
        return sae_id

    async def close(self) -> None:
        self.asked.append(-1)


def rows_of(*rows: list[int]) -> list[TokenRow]:
    return [np.array(row, dtype=np.int64) for row in rows]


async def test_a_row_is_computed_once_and_answered_the_same() -> None:
    engine, cache = Counting(), RowCache(2**20)
    cached = CachedEngine(engine, cache)
    first = await cached.encode("a", rows_of([1, 2], [3]), [5, 7])
    again = await cached.encode("a", rows_of([3], [4], [1, 2]), [5, 7])
    assert engine.asked == [2, 1]
    np.testing.assert_array_equal(again[0], first[1])
    np.testing.assert_array_equal(again[1], [[20, 28]])
    np.testing.assert_array_equal(again[2], first[0])
    assert (cache.hits, cache.misses, len(cache)) == (2, 3, 3)


async def test_whatever_changes_a_value_changes_the_key() -> None:
    """Guards against answers of another SAE, other features, their order, or the sparse kind."""
    engine = Counting()
    cached = CachedEngine(engine, RowCache(2**20))
    row = rows_of([1, 2])
    for sae_id, features in [("a", [1, 2]), ("b", [1, 2]), ("a", [2, 1]), ("a", [1])]:
        (values,) = await cached.encode(sae_id, row, features)
        np.testing.assert_array_equal(values, np.outer([1, 2], features))
    (sparse,) = await cached.encode_sparse("a", row)
    assert isinstance(sparse, SparseRow)
    assert engine.asked == [1] * 5
    fingerprints = [WEIGHTS, Fingerprints("m2", "sae", "t"), Fingerprints("model", "s2", "t")]
    keys = {row_keys(weights, row, (1, 2))[0] for weights in fingerprints}
    assert len(keys) == 3


@pytest.mark.parametrize("failure", [Unavailable("gone"), asyncio.CancelledError()])
async def test_a_failed_or_cancelled_call_leaves_nothing(failure: BaseException) -> None:
    engine, cache = Counting(), RowCache(2**20)
    cached = CachedEngine(engine, cache)
    engine.failure = failure
    with pytest.raises(type(failure)):
        await cached.encode("a", rows_of([1]), [1])
    assert (len(cache), cache.bytes) == (0, 0)
    engine.failure = None
    assert float((await cached.encode("a", rows_of([1]), [3]))[0][0, 0]) == 3.0


async def test_a_refused_row_is_counted_as_the_caller_counts() -> None:
    """Guards against the index of a row among those that were not in the cache."""
    cached = CachedEngine(Counting(), RowCache(2**20))
    await cached.encode("a", rows_of([1], [2]), [1])
    with pytest.raises(InvalidArgument) as caught:
        await cached.encode("a", rows_of([1], [2], [-3]), [1])
    assert caught.value.violations[0].field == "rows[2]"


async def test_memory_stays_within_its_bound_and_old_rows_go_first() -> None:
    engine, cache = Counting(), RowCache(3_000)
    cached = CachedEngine(engine, cache)
    for value in range(20):
        await cached.encode("a", rows_of([1]), [0, 1])  # used again and again
        await cached.encode("a", rows_of([2, value]), [0, 1])
        assert cache.bytes <= 3_000
    assert cache.evictions > 0
    computed = len(engine.asked)
    await cached.encode("a", rows_of([1]), [0, 1])
    assert len(engine.asked) == computed
    await cached.encode("a", rows_of(list(range(1_000))), [0, 1])  # larger than the cache
    assert cache.bytes <= 3_000


async def test_nobody_can_change_what_is_kept() -> None:
    """Guards against a caller that scales its answer in place, and against views that keep the
    whole batch in memory."""
    batch = np.ones((10_000, 2), dtype=np.float32)
    cache = RowCache(2**20)
    cache.put(b"key", batch[:3])
    kept = cache.get(b"key")
    assert isinstance(kept, np.ndarray)
    assert kept.base is None
    with pytest.raises(ValueError, match="read-only"):
        kept[0, 0] = 2.0
    batch[:] = 5.0
    assert kept[0, 0] == 1.0


async def test_a_front_answers_from_the_cache_and_exports_it(
    tmp_path: Path, model_folder: Path, sae_folder: Path
) -> None:
    """Guards the setting, both ways."""
    registry = load_registry(stack.write_registry(tmp_path / "r.yaml", model_folder, sae_folder))
    rows = rows_of([1, 5, 9], [1, 7])
    hits = {}
    for size in (0, 2**20):
        chosen = stack.settings(tmp_path / "r.yaml", tmp_path, row_cache_bytes=size)
        metrics = CollectorRegistry()
        async with front(chosen, registry, metrics) as parts:
            first = await parts.engine.encode("tiny", rows, [0, 3])
            again = await parts.engine.encode("tiny", rows, [0, 3])
            hits[size] = metrics.get_sample_value("saexplain_activation_cache_hits_total")
        for one, other in zip(first, again, strict=True):
            np.testing.assert_array_equal(one, other)
    assert hits == {0: None, 2**20: 2.0}
