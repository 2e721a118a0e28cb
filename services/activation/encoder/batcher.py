"""One thread that runs the model for everybody, one forward pass after the other.

Before each pass the rows are chosen anew (:mod:`fair_queue`), so that callers who came meanwhile
join, and rows that nobody waits for any more are left out. The same batcher serves the in-process
backend and the Triton model.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from services.activation.encoder.backend import EncoderLimits
from services.activation.encoder.fair_queue import Answer, Call, FairQueue, Slot
from services.activation.encoder.rate import RateMeter
from services.activation.encoder.rows import DenseRow, SparseRow
from services.common.errors import Cancelled, ResourceExhausted, SaexplainError, Unavailable

T = TypeVar("T")


@dataclass(frozen=True)
class PassFacts:
    """What one forward pass was."""

    rows: int
    tokens: int
    calls: int
    saes: int
    seconds: float
    waited_seconds: tuple[float, ...]
    """Of each call whose first rows were in this pass: from its arrival to the pass."""


Observer = Callable[[PassFacts], None]


def unobserved(_facts: PassFacts) -> None:
    """For batchers that nobody watches."""


class Batcher:
    """See the module's docstring.

    Args:
        limits: Tokens and calls that may wait, tokens of a pass.
        observe: Told of every pass, on the batcher's thread.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        limits: EncoderLimits,
        observe: Observer = unobserved,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._limits = limits
        self._observe = observe
        self._clock = clock
        self._queue = FairQueue(limits.batch_token_budget)
        self._held: dict[Call, None] = {}
        self._queued_tokens = 0
        self._jobs: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self.rate = RateMeter()
        self._thread = threading.Thread(target=self._work, name="encoder", daemon=True)
        self._thread.start()

    @property
    def queued_tokens(self) -> int:
        """Tokens of calls that wait or run."""
        return self._queued_tokens

    @property
    def queued_calls(self) -> int:
        """Calls that wait or run."""
        return len(self._held)

    def submit(self, call: Call) -> None:
        """Queue a call.

        Raises:
            ResourceExhausted: QUEUE_FULL, with a time to wait. Never where nothing else waits.
            Unavailable: The batcher is closed.
        """
        with self._changed:
            if self._closed:
                raise shutting_down()
            self._check_room(call)
            call.arrived = self._clock()
            self._held[call] = None
            self._queued_tokens += call.tokens
            self._queue.add(call)
            self._changed.notify()

    def run(self, work: Callable[[], T]) -> Future[T]:
        """Run something on the model's thread, between two passes.

        Raises:
            Unavailable: The batcher is closed.
        """
        with self._changed:
            if self._closed:
                raise shutting_down()
            future: Future[T] = Future()
            self._jobs.append((future, work))
            self._changed.notify()
            return future

    def forget(self, call: Call) -> None:
        """Give a call's room back; what has not run of it never will. Harmless if it is over."""
        with self._changed:
            if self._release(call):
                self._queue.drop(call)

    def close(self) -> None:
        """Refuse new calls, fail those that have not begun, finish the others."""
        with self._changed:
            self._closed = True
            waiting = list(self._held)
            for call in waiting:
                if not call.started:
                    self._release(call)
                    self._queue.drop(call)
            self._changed.notify()
        for call in waiting:
            if not call.started:
                call.answer(shutting_down())
        self._thread.join()

    def _work(self) -> None:
        while (slots := self._next_pass()) is not None:
            if slots:
                self._run(slots)
            if self._jobs:
                _do(*self._jobs.popleft())

    def _next_pass(self) -> list[Slot] | None:
        """Rows of the next pass, none where only a job waits; None when closed and all is done."""
        with self._changed:
            while not (len(self._queue) or self._jobs or self._closed):
                self._changed.wait()
            if not len(self._queue):
                return [] if self._jobs else None
            slots = self._queue.take()
            gone = [call for call in self._queue.abandoned() if self._release(call)]
        for call in gone:
            call.answer(Cancelled("the caller no longer wants the answer"))
        return slots

    def _run(self, slots: Sequence[Slot]) -> None:
        begin = self._clock()
        first = {slot.call for slot in slots if not slot.call.started}
        for call in first:
            call.started = True
        self.rate.start(begin)
        tokens = sum(len(slot.row) for slot in slots)
        found: list[DenseRow | SparseRow] | Exception
        try:
            found = slots[0].call.loaded.encoder.run_pass([slot.asked() for slot in slots])
        except Exception as error:  # noqa: BLE001 (the thread outlives it; callers get it)
            found = error
        end = self._clock()
        self.rate.finish(end, 0 if isinstance(found, Exception) else tokens)
        if isinstance(found, Exception):
            self._failed(slots, found)
            return
        self._observe(_facts(slots, tokens, end - begin, [begin - call.arrived for call in first]))
        for slot, result in zip(slots, found, strict=True):
            slot.call.results[slot.index] = result
        for call in {slot.call: None for slot in slots}:
            if len(call.results) == len(call.rows):
                self._finish(call, [call.results[index] for index in range(len(call.rows))])

    def _failed(self, slots: Sequence[Slot], error: Exception) -> None:
        """One caller's failure must not be its neighbours': each tries alone."""
        calls = {slot.call: None for slot in slots}
        if len(calls) > 1:
            for call in calls:
                self._run([slot for slot in slots if slot.call is call])
            return
        self._finish(slots[0].call, _as_failure(error))

    def _finish(self, call: Call, answer: Answer) -> None:
        with self._changed:
            waited_for = self._release(call)
            if call.left:
                self._queue.drop(call)
        if waited_for:
            call.answer(answer)

    def _release(self, call: Call) -> bool:
        """Whether the call was still held."""
        if call not in self._held:
            return False
        del self._held[call]
        self._queued_tokens -= call.tokens
        return True

    def _check_room(self, call: Call) -> None:
        limits = self._limits
        if not self._held:
            return
        if self._queued_tokens + call.tokens > limits.max_queued_tokens:
            message = (
                f"{self._queued_tokens} tokens are waiting, {call.tokens} more do not fit under "
                f"{limits.max_queued_tokens}"
            )
        elif len(self._held) >= limits.max_queued_calls:
            message = f"{len(self._held)} calls are waiting, more are not taken"
        else:
            return
        wait = self.rate.seconds_for(self._queued_tokens)
        raise ResourceExhausted(message, retry_after_seconds=wait, reason="QUEUE_FULL")


def _do(future: Future[Any], work: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(work())
    except Exception as error:  # noqa: BLE001 (whoever asked gets it)
        future.set_exception(error)


def shutting_down() -> Unavailable:
    """What callers are told while the process ends."""
    return Unavailable("the encoder is shutting down")


def _as_failure(error: Exception) -> Exception:
    """Running out of memory, and what else torch raises on the device, is not the caller's."""
    if isinstance(error, SaexplainError) or not isinstance(error, (RuntimeError, MemoryError)):
        return error
    failure = Unavailable(f"the encoder failed: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure


def _facts(
    slots: Sequence[Slot], tokens: int, seconds: float, waited: Sequence[float]
) -> PassFacts:
    return PassFacts(
        rows=len(slots),
        tokens=tokens,
        calls=len({slot.call for slot in slots}),
        saes=len({id(slot.call.loaded.sae) for slot in slots}),
        seconds=seconds,
        waited_seconds=tuple(waited),
    )
