"""The in-process backend batches concurrent callers and keeps their answers apart."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from services.activation.encoder.backend import Backend, EncoderLimits
from services.activation.encoder.encode import Encoder, PassRow
from services.activation.encoder.identity import Fingerprints
from services.activation.encoder.inprocess import InProcessBackend
from services.activation.encoder.loaded import Lease, LoadedSae
from services.activation.encoder.rows import DenseRow, SparseRow
from services.activation.encoder.sae import Sae
from services.common.errors import InvalidArgument, NotFound, ResourceExhausted, Unavailable

FEATURES = [3, 40, 95]


class GatedEncoder(Encoder):
    """Can be held back, so that a test decides what waits; counts its passes."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder.model, batch_token_budget=encoder.batch_token_budget)
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Event()
        self.passes: list[list[int]] = []

    def run_pass(self, asked: Sequence[PassRow]) -> list[DenseRow | SparseRow]:
        self.started.set()
        self.gate.wait(30)
        self.passes.append([len(one.row) for one in asked])
        return super().run_pass(asked)

    async def hold(self) -> None:
        """Wait until the first pass has begun; only then does the rest queue up."""
        await asyncio.to_thread(self.started.wait, 30)


class Loader:
    """Knows one SAE; loads it when first asked for."""

    def __init__(self, encoder: Encoder, sae: Sae) -> None:
        self.encoder = GatedEncoder(encoder)
        self.loaded = LoadedSae(self.encoder, sae, Fingerprints("m", "s", "t"))
        self.gate = threading.Event()
        self.gate.set()
        self.loads = 0
        self.leases = 0

    def __call__(self, sae_id: str) -> LoadedSae:
        with self.lease(sae_id) as loaded:
            return loaded

    def lease_ready(self, sae_id: str) -> Lease | None:
        return self.lease(sae_id) if self.loads and sae_id == "tiny" else None

    def lease(self, sae_id: str) -> Lease:
        if sae_id != "tiny":
            raise NotFound(f"no SAE {sae_id!r}", reason="SAE_NOT_FOUND")
        if not self.loads:
            self.gate.wait(30)
            self.loads += 1
        self.leases += 1
        return Lease(self.loaded, self._give_back)

    def _give_back(self) -> None:
        self.leases -= 1


@pytest.fixture
def loader(encoder: Encoder, sae: Sae) -> Loader:
    return Loader(encoder, sae)


def row(length: int, seed: int = 0) -> np.ndarray:
    return np.array([1, *np.random.default_rng(seed).integers(2, 400, length - 1)], dtype=np.int64)


async def test_concurrent_callers_share_a_batch_and_get_their_own_rows(loader: Loader) -> None:
    """Guards against answers that go to the wrong caller."""
    backend: Backend = InProcessBackend(loader, EncoderLimits())
    rows = [row(length, seed=length) for length in (4, 9, 30, 2, 17)]
    answers = await asyncio.gather(*(backend.encode("tiny", [one], FEATURES) for one in rows))
    assert (loader.loads, loader.leases) == (1, 0)
    assert len(loader.encoder.passes) < len(rows)
    alone = loader.loaded.encoder.encode(loader.loaded.sae, rows, FEATURES)
    for (answer,), expected in zip(answers, alone, strict=True):
        np.testing.assert_allclose(answer, expected, atol=1e-4)
    sparse = await backend.encode_sparse("tiny", rows[:2])
    assert [len(one.indptr) for one in sparse] == [5, 10]
    await backend.close()


async def test_one_bad_row_does_not_fail_its_neighbours(loader: Loader) -> None:
    """Guards against one caller's mistake answering everybody."""
    backend = InProcessBackend(loader, EncoderLimits())
    good, bad = await asyncio.gather(
        backend.encode("tiny", [row(5)], FEATURES),
        backend.encode("tiny", [np.array([1, 4_000])], FEATURES),
        return_exceptions=True,
    )
    assert isinstance(bad, InvalidArgument)
    assert not isinstance(good, BaseException)
    assert good[0].shape == (5, 3)
    await backend.close()


async def test_a_full_queue_refuses_and_says_when_to_come_back(loader: Loader) -> None:
    loader.encoder.gate.clear()
    backend = InProcessBackend(loader, EncoderLimits(max_queued_tokens=30))
    waiting = asyncio.create_task(backend.encode("tiny", [row(20)], FEATURES))
    await loader.encoder.hold()
    with pytest.raises(ResourceExhausted) as caught:
        await backend.encode("tiny", [row(11)], FEATURES)
    assert caught.value.reason == "QUEUE_FULL"
    assert caught.value.retry_after_seconds
    loader.encoder.gate.set()
    assert len(await waiting) == 1
    assert len(await backend.encode("tiny", [row(30)], FEATURES)) == 1  # the room is free again
    await backend.close()


async def test_a_cancelled_caller_leaves_the_queue(loader: Loader) -> None:
    """Guards against work for nobody, and against room that is never given back."""
    loader.encoder.gate.clear()
    backend = InProcessBackend(loader, EncoderLimits(max_queued_tokens=60, batch_token_budget=10))
    first = asyncio.create_task(backend.encode("tiny", [row(20)], FEATURES))
    await loader.encoder.hold()
    second = asyncio.create_task(backend.encode("tiny", [row(40)], FEATURES))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    third = asyncio.create_task(backend.encode("tiny", [row(40)], FEATURES))
    loader.encoder.gate.set()
    await asyncio.gather(first, third)
    assert [sum(lengths) for lengths in loader.encoder.passes] == [20, 40]
    await backend.close()


async def test_calls_beyond_the_limits_are_refused(loader: Loader) -> None:
    backend = InProcessBackend(loader, EncoderLimits(max_rows=2, max_row_tokens=8, max_features=2))
    for rows, features, reason in [
        ([], [0], "TOO_MANY_ITEMS"),
        ([row(2)] * 3, [0], "TOO_MANY_ITEMS"),
        ([row(9)], [0], "TEXT_TOO_LONG"),
        ([row(2)], [0, 1, 2], "TOO_MANY_ITEMS"),
        ([row(2)], [], "TOO_MANY_ITEMS"),
        ([row(2)], [96], "FEATURE_OUT_OF_RANGE"),
    ]:
        with pytest.raises(InvalidArgument) as caught:
            await backend.encode("tiny", rows, features)
        assert caught.value.reason == reason
    with pytest.raises(NotFound):
        await backend.encode_sparse("other", [row(2)])
    await backend.close()


async def test_a_closed_backend_refuses_and_fails_what_waits(loader: Loader) -> None:
    loader.encoder.gate.clear()
    backend = InProcessBackend(loader, EncoderLimits(batch_token_budget=10))
    running = asyncio.create_task(backend.encode("tiny", [row(20)], FEATURES))
    await loader.encoder.hold()
    waiting = asyncio.create_task(backend.encode("tiny", [row(20)], FEATURES))
    await asyncio.sleep(0)
    closing = asyncio.create_task(backend.close())
    await asyncio.sleep(0)
    loader.encoder.gate.set()
    assert len(await running) == 1
    with pytest.raises(Unavailable):
        await waiting
    await closing
    with pytest.raises(Unavailable):
        await backend.encode("tiny", [row(2)], FEATURES)
