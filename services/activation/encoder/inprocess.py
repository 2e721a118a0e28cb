"""The backend that computes in this process; callers that arrive together share forward passes.

Limits and features are checked here, rows wait in the :class:`Batcher`. A call whose task was
cancelled, or whose deadline passed, gives its room back at once, and its rows are left out of the
next pass.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch

from services.activation.encoder.backend import EncoderLimits
from services.activation.encoder.batcher import Batcher, Observer, shutting_down, unobserved
from services.activation.encoder.fair_queue import Answer, Call
from services.activation.encoder.identity import Fingerprints
from services.activation.encoder.loaded import Lease, LoadedSae, SaeLoader
from services.activation.encoder.rows import DenseRow, SparseRow, TokenRow, check_rows
from services.common.errors import InvalidArgument

T = TypeVar("T")

_LOADS_AT_ONCE = 4


class InProcessBackend:
    """See the module's docstring; implements :class:`Backend`.

    Args:
        load: Where SAEs come from.
        limits: What is admitted.
        observe: Told of every forward pass, on the thread that ran it.
    """

    def __init__(
        self, load: SaeLoader, limits: EncoderLimits, observe: Observer = unobserved
    ) -> None:
        self._load = load
        self._limits = limits
        self._batcher = Batcher(limits, observe)
        self._threads = ThreadPoolExecutor(_LOADS_AT_ONCE, thread_name_prefix="load")
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._closed = False

    @property
    def batcher(self) -> Batcher:
        """For its queue and its speed."""
        return self._batcher

    @property
    def tokens_per_second(self) -> float:
        """Measured speed while busy."""
        return self._batcher.rate.tokens_per_second

    async def encode(
        self, sae_id: str, rows: Sequence[TokenRow], features: Sequence[int]
    ) -> list[DenseRow]:
        """Dense activations of chosen features; see :class:`Backend`."""
        if not 1 <= len(features) <= self._limits.max_features:
            message = (
                f"{len(features)} features, between 1 and {self._limits.max_features} are allowed"
            )
            raise InvalidArgument(message, field="features", reason="TOO_MANY_ITEMS")
        dense: list[DenseRow] = await self._submit(sae_id, rows, tuple(int(f) for f in features))
        return dense

    async def encode_sparse(self, sae_id: str, rows: Sequence[TokenRow]) -> list[SparseRow]:
        """All activations above zero; see :class:`Backend`."""
        sparse: list[SparseRow] = await self._submit(sae_id, rows, None)
        return sparse

    async def fingerprints(self, sae_id: str) -> Fingerprints:
        """Fingerprints of what is loaded for ``sae_id``."""
        return (await self.loaded(sae_id)).fingerprints

    async def loaded(self, sae_id: str) -> LoadedSae:
        """Model and SAE themselves, loaded if need be."""
        with await self._lease(sae_id) as loaded:
            return loaded

    async def run(self, sae_id: str, work: Callable[[LoadedSae], T]) -> T:
        """Something else that runs the model, on its thread, between two forward passes."""
        with await self._lease(sae_id) as loaded:
            return await asyncio.wrap_future(self._batcher.run(lambda: work(loaded)))

    async def close(self) -> None:
        """Refuse new work, fail what waits, wait for what has begun."""
        self._closed = True
        await asyncio.to_thread(self._batcher.close)
        await asyncio.to_thread(self._threads.shutdown)

    async def _submit(
        self, sae_id: str, rows: Sequence[TokenRow], features: tuple[int, ...] | None
    ) -> Any:
        if not 1 <= len(rows) <= self._limits.max_rows:
            message = f"{len(rows)} rows, between 1 and {self._limits.max_rows} are allowed"
            raise InvalidArgument(message, field="rows", reason="TOO_MANY_ITEMS")
        with await self._lease(sae_id) as loaded:
            check_call(loaded, rows, features, self._limits.max_row_tokens)
            loop = asyncio.get_running_loop()
            answer: asyncio.Future[Any] = loop.create_future()
            call = Call(loaded, rows, features, _settle_on(loop, answer), answer.cancelled)
            self._batcher.submit(call)
            try:
                return await answer
            finally:
                self._batcher.forget(call)

    async def _lease(self, sae_id: str) -> Lease:
        """A lease; concurrent first callers of an SAE wait for one load in one thread."""
        while True:
            if self._closed:
                raise shutting_down()
            lease = self._load.lease_ready(sae_id)
            if lease is not None:
                return lease
            if sae_id not in self._loading:
                task = asyncio.create_task(self._load_once(sae_id))
                self._loading[sae_id] = task
                task.add_done_callback(lambda done: self._loaded_once(sae_id, done))
            # Shielded: a caller that gives up must not end the others' load.
            await asyncio.shield(self._loading[sae_id])

    async def _load_once(self, sae_id: str) -> None:
        await asyncio.get_running_loop().run_in_executor(self._threads, self._load, sae_id)

    def _loaded_once(self, sae_id: str, done: asyncio.Task[None]) -> None:
        del self._loading[sae_id]
        if not done.cancelled():
            done.exception()  # those who wait have it; where nobody does, it is not an accident


def check_call(
    loaded: LoadedSae,
    rows: Sequence[TokenRow],
    features: tuple[int, ...] | None,
    max_row_tokens: int,
) -> None:
    """Refuse rows that the model cannot read and features that the SAE does not have.

    Raises:
        InvalidArgument: TEXT_EMPTY, TEXT_TOO_LONG, FIELD_INVALID or FEATURE_OUT_OF_RANGE, naming
            the row or the feature.
    """
    model = loaded.encoder.model
    check_rows(
        rows,
        vocabulary_size=model.vocabulary_size,
        maximum_tokens=min(model.maximum_positions, max_row_tokens),
    )
    loaded.sae.check_features(torch.tensor(features or (), dtype=torch.int64))


def _settle_on(
    loop: asyncio.AbstractEventLoop, answer: asyncio.Future[Any]
) -> Callable[[Answer], None]:
    def settle(found: Answer) -> None:
        if answer.done():
            return
        if isinstance(found, Exception):
            answer.set_exception(found)
        else:
            answer.set_result(found)

    def settle_soon(found: Answer) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(settle, found)

    return settle_soon
