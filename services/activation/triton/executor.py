"""Answers Triton requests with the encoder; knows nothing of Triton itself.

Requests come from callers that do not know each other. Each is checked on its own, so that a bad
one spoils only its own answer; the good ones wait in the :class:`Batcher` and share forward
passes, whatever SAE and features they ask for. ``execute`` does not wait for answers: Triton may
hand over the next requests while the first still run, and those join the next pass.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.activation.encoder.backend import EncoderLimits
from services.activation.encoder.batcher import Batcher
from services.activation.encoder.fair_queue import Answer as Rows
from services.activation.encoder.fair_queue import Call
from services.activation.encoder.inprocess import check_call
from services.activation.encoder.loaded import Lease, LoadedSae, SaeLoader
from services.activation.triton import wire
from services.activation.weights import describe, facts_of, token_cosines_of
from services.common.errors import SaexplainError, Unavailable

_THREADS = 4
"""For loading and for what the weights say; what runs texts has a thread of its own."""

Answer = dict[str, NDArray[Any]] | SaexplainError
"""Output tensors, or why there are none."""


@dataclass(frozen=True)
class Pending:
    """One request of a batch."""

    tensors: wire.Tensors
    """Flat inputs; see :mod:`wire`. Not read any more once ``execute`` has returned."""
    cancelled: Callable[[], bool]
    """Whether its caller has gone away."""
    answer: Callable[[Answer], None]
    """To be called exactly once, as soon as the answer is there."""


class Executor:
    """See the module's docstring.

    Args:
        store: Finds or loads what belongs to an SAE id.
        batcher: Runs the model.
        limits: Of a request.
    """

    def __init__(self, store: SaeLoader, batcher: Batcher, limits: EncoderLimits) -> None:
        self._store = store
        self._batcher = batcher
        self._limits = limits
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="weights")
        self._answering = ThreadPoolExecutor(1, thread_name_prefix="answers")

    def execute(self, batch: Sequence[Pending]) -> None:
        """See to it that every request is answered exactly once, now or later."""
        for pending in batch:
            try:
                request = wire.decode_request(pending.tensors)
            except SaexplainError as error:
                pending.answer(error)
                continue
            lease = self._store.lease_ready(request.sae_id)
            if lease is None or request.task not in wire.TASKS_THAT_RUN_TEXT:
                self._threads.submit(_answered, pending, self._slowly, pending, request, lease)
            else:
                _answered(pending, self._start, pending, request, lease)

    def close(self) -> None:
        """Answer all there is, refuse the rest."""
        self._threads.shutdown()
        self._batcher.close()
        self._answering.shutdown()

    def _slowly(self, pending: Pending, request: wire.Request, lease: Lease | None) -> None:
        """What may load, or reads the weights alone."""
        lease = lease or self._store.lease(request.sae_id)
        if request.task in wire.TASKS_THAT_RUN_TEXT:
            self._start(pending, request, lease)
            return
        with lease as loaded:
            pending.answer(
                _read_weights(request, loaded) | wire.encode_fingerprint(describe(loaded))
            )

    def _start(self, pending: Pending, request: wire.Request, lease: Lease) -> None:
        """Queue a request that runs text; its answer leaves while the next forward pass runs."""
        sparse = request.task is wire.Task.SPARSE
        features = None if sparse else request.features

        def send(rows: Rows) -> None:
            with lease as loaded:
                _answered(pending, _send, pending, rows, sparse, loaded)

        def settle(rows: Rows) -> None:
            self._answering.submit(send, rows)

        try:
            check_call(lease.loaded, request.rows, features, self._limits.max_row_tokens)
            rows = [np.array(row) for row in request.rows]  # Triton takes its memory back
            self._batcher.submit(Call(lease.loaded, rows, features, settle, pending.cancelled))
        except BaseException:
            lease.release()
            raise


def _send(pending: Pending, rows: Rows, sparse: bool, loaded: LoadedSae) -> None:
    if isinstance(rows, Exception):
        raise rows
    encode: Any = wire.encode_sparse if sparse else wire.encode_dense
    pending.answer(encode(rows) | wire.encode_fingerprint(describe(loaded)))


def _read_weights(request: wire.Request, loaded: LoadedSae) -> dict[str, NDArray[Any]]:
    """The answer to DESCRIBE, FEATURE or TOKENS.

    Raises:
        InvalidArgument: FEATURE_OUT_OF_RANGE, FIELD_INVALID.
    """
    if request.task is wire.Task.DESCRIBE:
        return wire.encode_description(describe(loaded))
    if request.task is wire.Task.FEATURE:
        (feature,) = request.features[:1] or (-1,)
        return wire.encode_facts(*facts_of(loaded, feature, request.vocabulary_size))
    ids = np.concatenate(request.rows).tolist()
    return {"values": np.concatenate(token_cosines_of(loaded, ids))}


def _answered(pending: Pending, work: Callable[..., None], *arguments: Any) -> None:
    """Do the work; whatever it raises is the answer. Triton waits for ever for one without."""
    try:
        work(*arguments)
    except SaexplainError as error:
        pending.answer(error)
    except Exception as error:  # noqa: BLE001 (see above)
        pending.answer(_defect(error))


def _defect(error: Exception) -> Unavailable:
    traceback.print_exception(error)  # Triton's log is this process's standard error
    return Unavailable(f"the encoder failed: {type(error).__name__}: {error}")
