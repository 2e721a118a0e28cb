"""The backend that computes in this process, batching callers that arrive together.

One worker thread runs the model. Calls wait in a bounded queue; whenever the thread is free it
takes the oldest call and every waiting call of the same kind for the same SAE that still fits
the token budget, and runs them as one. A call whose task was cancelled is skipped, and a running
batch stops between two forward passes once nobody waits for it any more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from services.activation.encoder.backend import EncoderLimits
from services.activation.encoder.encode import Encoder
from services.activation.encoder.identity import Fingerprints
from services.activation.encoder.rows import DenseRow, SparseRow, TokenRow, check_rows
from services.activation.encoder.sae import Sae
from services.common.errors import InvalidArgument, ResourceExhausted, SaexplainError, Unavailable

_SECONDS_PER_QUEUED_TOKEN = 1 / 2_000
"""For the advice how long to wait: a rate that two CPU cores reach with a 135 M model."""


@dataclass(frozen=True)
class LoadedSae:
    """Everything that computes one SAE's activations."""

    encoder: Encoder
    sae: Sae
    fingerprints: Fingerprints


class SaeLoader(Protocol):
    """Finds or loads what belongs to an SAE id; blocking, called on the worker thread."""

    def __call__(self, sae_id: str) -> LoadedSae:
        """Raises NotFound (SAE_NOT_FOUND) for an unknown id."""
        ...


@dataclass(eq=False)
class _Call:
    sae_id: str
    rows: Sequence[TokenRow]
    features: tuple[int, ...] | None  # None asks for all of them, sparse
    answer: asyncio.Future[Any]
    tokens: int = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = sum(len(row) for row in self.rows)

    @property
    def kind(self) -> tuple[str, tuple[int, ...] | None]:
        return self.sae_id, self.features


class InProcessBackend:
    """See the module's docstring; implements :class:`Backend`."""

    def __init__(self, load: SaeLoader, limits: EncoderLimits) -> None:
        self._load = load
        self._limits = limits
        self._waiting: deque[_Call] = deque()
        self._queued_tokens = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="encoder")
        self._worker: asyncio.Task[None] | None = None
        self._closed = False

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
        """Model and SAE themselves, loaded on the worker thread if need be."""
        self._check_open()
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._load, sae_id)

    async def close(self) -> None:
        """Refuse new work, fail what waits, wait for the batch that runs."""
        self._closed = True
        while self._waiting:
            call = self._waiting.popleft()
            if not call.answer.done():
                call.answer.set_exception(_closed_error())
        if self._worker is not None:
            await self._worker
        await asyncio.to_thread(self._thread.shutdown)

    async def _submit(
        self, sae_id: str, rows: Sequence[TokenRow], features: tuple[int, ...] | None
    ) -> Any:
        self._check_open()
        self._check_call(rows)
        call = _Call(sae_id, rows, features, asyncio.get_running_loop().create_future())
        self._check_room(call)
        self._queued_tokens += call.tokens
        self._waiting.append(call)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.get_running_loop().create_task(self._work())
        try:
            return await call.answer
        finally:
            self._queued_tokens -= call.tokens

    async def _work(self) -> None:
        while self._waiting:
            await asyncio.sleep(0)  # callers of the same turn of the loop join this batch
            calls = self._take_batch()
            if calls:
                await self._run(calls)

    async def _run(self, calls: list[_Call]) -> None:
        def abandoned() -> bool:
            return all(call.answer.cancelled() for call in calls)

        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._thread, self._compute, calls, abandoned)
        await asyncio.wait([running])  # does not raise: the worker outlives any failure
        error = running.exception()
        if isinstance(error, SaexplainError) and len(calls) > 1:
            for call in calls:  # one caller's bad request must not fail its neighbours
                await self._run([call])
            return
        if error is not None:
            for call in calls:
                _settle(call, error=error)
            return
        results, start = running.result(), 0
        for call in calls:
            _settle(call, result=results[start : start + len(call.rows)])
            start += len(call.rows)

    def _compute(self, calls: list[_Call], abandoned: Callable[[], bool]) -> list[Any]:
        loaded = self._load(calls[0].sae_id)
        rows = [row for call in calls for row in call.rows]
        features = calls[0].features
        if features is None:
            return list(loaded.encoder.encode_sparse(loaded.sae, rows, abandoned))
        return list(loaded.encoder.encode(loaded.sae, rows, features, abandoned))

    def _take_batch(self) -> list[_Call]:
        """The oldest live call and what may run with it; the rest keeps its order."""
        taken: list[_Call] = []
        left: deque[_Call] = deque()
        tokens = 0
        for call in self._waiting:
            if call.answer.done():
                continue
            fits = tokens + call.tokens <= self._limits.batch_token_budget
            if not taken or (call.kind == taken[0].kind and fits):
                taken.append(call)
                tokens += call.tokens
            else:
                left.append(call)
        self._waiting = left
        return taken

    def _check_open(self) -> None:
        if self._closed:
            raise _closed_error()

    def _check_call(self, rows: Sequence[TokenRow]) -> None:
        if not 1 <= len(rows) <= self._limits.max_rows:
            message = f"{len(rows)} rows, between 1 and {self._limits.max_rows} are allowed"
            raise InvalidArgument(message, field="rows", reason="TOO_MANY_ITEMS")
        check_rows(rows, vocabulary_size=2**31, maximum_tokens=self._limits.max_row_tokens)

    def _check_room(self, call: _Call) -> None:
        if self._queued_tokens + call.tokens > self._limits.max_queued_tokens:
            raise ResourceExhausted(
                f"{self._queued_tokens} tokens are waiting, {call.tokens} more do not fit under "
                f"{self._limits.max_queued_tokens}",
                retry_after_seconds=max(0.1, self._queued_tokens * _SECONDS_PER_QUEUED_TOKEN),
                reason="QUEUE_FULL",
            )


def _settle(call: _Call, *, result: Any = None, error: BaseException | None = None) -> None:
    if call.answer.done():
        return
    if error is not None:
        call.answer.set_exception(error)
    else:
        call.answer.set_result(result)


def _closed_error() -> Unavailable:
    return Unavailable("the encoder is shutting down")
