"""The backend that asks a Triton server. Needs no torch.

A call is cut into requests of bounded size which Triton batches with those of other callers. A
request whose model process or server died waits a bounded time until the model answers again (see
:mod:`supervisor`), and is sent exactly once more: it changes nothing. What fails twice is
Unavailable, and so is what takes too long.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import tritonclient.grpc.aio as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from services.activation.encoder.backend import EncoderLimits
from services.activation.encoder.identity import Fingerprints
from services.activation.encoder.rate import RateMeter
from services.activation.encoder.rows import DenseRow, SparseRow, TokenRow, check_rows
from services.activation.triton import wire
from services.activation.triton.failures import error_of, is_dead, is_of_model
from services.activation.triton.recovery import Recovery
from services.activation.triton.wire import Request, SaeDescription, Task
from services.common.errors import (
    FailedPrecondition,
    FieldViolation,
    InvalidArgument,
    ResourceExhausted,
    SaexplainError,
    Unavailable,
)

T = TypeVar("T")

_PIECES_AT_ONCE = 2
"""Requests of one call that are under way together: one runs while the next one waits. More would
only get a long call a larger share than others."""

_CHANNEL = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_retries", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)
"""Sizes are bounded by the requests themselves; a server that comes back is found soon."""

_NO_SAE = wire.encode_request(Request(Task.DESCRIBE, "-"))
"""A model that is alive answers that it has no such SAE."""


class TritonBackend:
    """Implements :class:`services.activation.encoder.backend.Backend`.

    Args:
        address: ``host:port`` of Triton's gRPC endpoint.
        model_of: The Triton model that serves an SAE id; raises NotFound (SAE_NOT_FOUND).
        limits: What is admitted; ``batch_token_budget`` bounds one request's tokens.
        timeout_seconds: For one request, waiting in Triton's queue included.
        recovery_seconds: How long a request waits for a dead model to come back.
    """

    def __init__(
        self,
        address: str,
        model_of: Callable[[str], str],
        limits: EncoderLimits,
        *,
        timeout_seconds: float = 300.0,
        recovery_seconds: float = 30.0,
    ) -> None:
        self._address = address
        self._model_of = model_of
        self._limits = limits
        self._timeout_seconds = timeout_seconds
        self._client: triton.InferenceServerClient | None = None
        self._recovery = Recovery(self._is_alive, recovery_seconds)
        self._descriptions: dict[str, SaeDescription] = {}
        self._queued_tokens = 0
        self._queued_calls = 0
        self._rate = RateMeter()
        self._closed = False

    @property
    def tokens_per_second(self) -> float:
        """Measured speed while busy."""
        return self._rate.tokens_per_second

    @property
    def queued_calls(self) -> int:
        """Calls that wait for their answer."""
        return self._queued_calls

    @property
    def queued_tokens(self) -> int:
        """Tokens of calls that wait for their answer."""
        return self._queued_tokens

    async def encode(
        self, sae_id: str, rows: Sequence[TokenRow], features: Sequence[int]
    ) -> list[DenseRow]:
        """Dense activations of chosen features; see ``Backend``."""
        if not 1 <= len(features) <= self._limits.max_features:
            message = (
                f"{len(features)} features, between 1 and {self._limits.max_features} are allowed"
            )
            raise InvalidArgument(message, field="features", reason="TOO_MANY_ITEMS")
        chosen = tuple(int(feature) for feature in features)
        return await self._call(Request(Task.DENSE, sae_id, tuple(rows), chosen), wire.decode_dense)

    async def encode_sparse(self, sae_id: str, rows: Sequence[TokenRow]) -> list[SparseRow]:
        """All activations above zero; see ``Backend``."""
        return await self._call(Request(Task.SPARSE, sae_id, tuple(rows)), wire.decode_sparse)

    async def fingerprints(self, sae_id: str) -> Fingerprints:
        """What Triton has loaded for ``sae_id``, asked anew each time.

        Raises:
            FailedPrecondition: FINGERPRINT_MISMATCH, it is not what it was before.
        """
        return (await self.describe(sae_id)).fingerprints

    async def describe(self, sae_id: str) -> SaeDescription:
        """What Triton has loaded, with sizes and kind of the SAE. Errors as `fingerprints`."""
        description = wire.decode_description(await self._infer(Request(Task.DESCRIBE, sae_id)))
        known = self._descriptions.setdefault(sae_id, description)
        _check_same(sae_id, known, description.digest)
        return description

    async def ask(self, request: Request) -> dict[str, NDArray[Any]]:
        """Flat output tensors of one request, as :mod:`wire` describes them.

        Raises:
            FailedPrecondition: FINGERPRINT_MISMATCH, computed from other weights than before.
        """
        known = self._descriptions.get(request.sae_id) or await self.describe(request.sae_id)
        tensors = await self._infer(request)
        _check_same(request.sae_id, known, wire.decode_fingerprint(tensors))
        return tensors

    async def close(self) -> None:
        """Refuse new work; calls still waiting end as Unavailable."""
        self._closed = True
        await self._recovery.close()
        if self._client is not None:
            await self._client.close()

    async def _call(
        self, request: Request, decode: Callable[[wire.Tensors, Request], list[T]]
    ) -> list[T]:
        self._check_call(request)

        turns = asyncio.Semaphore(_PIECES_AT_ONCE)

        async def part(offset: int, piece: Request) -> list[T]:
            async with turns:
                try:
                    return decode(await self._timed(piece), piece)
                except SaexplainError as error:
                    raise _with_offset(error, offset) from error

        self._check_room(request)
        self._queued_tokens += request.token_count
        self._queued_calls += 1
        try:
            pieces = _pieces(request, self._limits.batch_token_budget)
            results = await _all(part(offset, piece) for offset, piece in pieces)
        finally:
            self._queued_tokens -= request.token_count
            self._queued_calls -= 1
        return [row for rows in results for row in rows]

    async def _timed(self, piece: Request) -> dict[str, NDArray[Any]]:
        """The answer to a piece, with its part in the measured speed."""
        clock = asyncio.get_running_loop().time
        self._rate.start(clock())
        done = 0
        try:
            tensors = await self.ask(piece)
            done = piece.token_count
            return tensors
        finally:
            self._rate.finish(clock(), done)

    async def _infer(self, request: Request) -> dict[str, NDArray[Any]]:
        """One request and its flat output tensors, sent once more where that may help."""
        model, tensors = self._model_of(request.sae_id), wire.encode_request(request)
        try:
            return await self._send(model, tensors)
        except InferenceServerException as error:
            if self._closed or not is_dead(error):
                raise self._failure(error) from error
        await self._recovery.wait(model)
        try:
            return await self._send(model, tensors)
        except InferenceServerException as error:
            raise self._failure(error) from error

    async def _is_alive(self, model: str) -> bool:
        try:
            await self._send(model, _NO_SAE)
        except InferenceServerException as error:
            return is_of_model(error)
        return True

    async def _send(self, model: str, tensors: wire.Tensors) -> dict[str, NDArray[Any]]:
        if self._closed:
            raise Unavailable("the backend is shutting down")
        if self._client is None:
            self._client = triton.InferenceServerClient(self._address, channel_args=list(_CHANNEL))
        result = await self._client.infer(
            model, _inputs(tensors), client_timeout=self._timeout_seconds
        )
        names = [output.name for output in result.get_response().outputs]
        return {name: result.as_numpy(name).reshape(-1) for name in names}

    def _failure(self, error: InferenceServerException) -> SaexplainError:
        if self._closed:
            return Unavailable("the backend is shutting down")
        return error_of(error, self._address, self._wait_seconds())

    def _wait_seconds(self) -> float:
        return self._rate.seconds_for(self._queued_tokens)

    def _check_call(self, request: Request) -> None:
        if self._closed:
            raise Unavailable("the backend is shutting down")
        if not 1 <= len(request.rows) <= self._limits.max_rows:
            message = f"{len(request.rows)} rows, between 1 and {self._limits.max_rows} are allowed"
            raise InvalidArgument(message, field="rows", reason="TOO_MANY_ITEMS")
        check_rows(request.rows, vocabulary_size=2**31, maximum_tokens=self._limits.max_row_tokens)

    def _check_room(self, request: Request) -> None:
        tokens, limits = request.token_count, self._limits
        if self._queued_calls == 0:
            return
        if self._queued_tokens + tokens > limits.max_queued_tokens:
            message = (
                f"{self._queued_tokens} tokens are waiting, {tokens} more do not fit under "
                f"{limits.max_queued_tokens}"
            )
        elif self._queued_calls >= limits.max_queued_calls:
            message = f"{self._queued_calls} calls are waiting, more are not taken"
        else:
            return
        raise ResourceExhausted(
            message, retry_after_seconds=self._wait_seconds(), reason="QUEUE_FULL"
        )


def _inputs(tensors: wire.Tensors) -> list[triton.InferInput]:
    inputs = []
    for name, array in tensors.items():
        tensor = triton.InferInput(name, [1, len(array)], wire.INPUT_TYPES[name])
        inputs.append(tensor.set_data_from_numpy(array[np.newaxis]))
    return inputs


def _pieces(request: Request, token_budget: int) -> Iterator[tuple[int, Request]]:
    """The request cut between rows, each piece with the index of its first row."""
    start = tokens = 0
    for index, row in enumerate(request.rows):
        if index > start and tokens + len(row) > token_budget:
            yield start, _rows_of(request, start, index)
            start, tokens = index, 0
        tokens += len(row)
    yield start, _rows_of(request, start, len(request.rows))


def _rows_of(request: Request, start: int, stop: int) -> Request:
    return Request(request.task, request.sae_id, request.rows[start:stop], request.features)


async def _all(parts: Iterator[Coroutine[Any, Any, T]]) -> list[T]:
    """Results in order; the first failure, or being cancelled, ends the others too."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _with_offset(error: SaexplainError, offset: int) -> SaexplainError:
    """The error with row indices of the whole call instead of one piece."""

    def moved(match: re.Match[str]) -> str:
        return f"rows[{int(match.group(1)) + offset}]"

    error.violations = tuple(
        FieldViolation(re.sub(r"^rows\[(\d+)\]", moved, violation.field), violation.description)
        for violation in error.violations
    )
    return error


def _check_same(sae_id: str, known: SaeDescription, found: str) -> None:
    if found != known.digest:
        raise FailedPrecondition(
            f"Triton now serves {sae_id!r} from other weights than when this service first asked",
            reason="FINGERPRINT_MISMATCH",
            metadata={"sae": sae_id},
        )
