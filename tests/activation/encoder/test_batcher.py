"""One thread for everybody: fair between long and short calls, rid of those nobody waits for.

Load-bearing: ``test_a_long_call_does_not_hold_up_short_ones``, counted in passes, not in time.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest

from services.activation.encoder.backend import EncoderLimits
from services.activation.encoder.batcher import Batcher, PassFacts
from services.activation.encoder.encode import Encoder, PassRow
from services.activation.encoder.fair_queue import Answer, Call
from services.activation.encoder.identity import Fingerprints
from services.activation.encoder.loaded import LoadedSae
from services.activation.encoder.rate import RateMeter
from services.activation.encoder.rows import DenseRow, SparseRow
from services.activation.encoder.sae import Sae
from services.common.errors import ResourceExhausted, SaexplainError, Unavailable

LIMITS = EncoderLimits(batch_token_budget=100, max_queued_tokens=100_000, max_queued_calls=500)


class Recorded(Encoder):
    """Remembers its passes; a test opens the gate, and says which rows break a pass."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder.model)
        self.gate = threading.Event()
        self.began = threading.Event()
        self.passes: list[list[int]] = []
        self.breaks_on = 0

    def run_pass(self, asked: Sequence[PassRow]) -> list[DenseRow | SparseRow]:
        self.began.set()
        assert self.gate.wait(30)
        lengths = [len(one.row) for one in asked]
        self.passes.append(lengths)
        if self.breaks_on in lengths:
            raise RuntimeError("out of memory")
        return super().run_pass(asked)


class Caller:
    """One call and what became of it."""

    def __init__(self, loaded: LoadedSae, lengths: Sequence[int]) -> None:
        self.gone = False
        self.done = threading.Event()
        self.answer: Answer | None = None
        rows = [np.arange(1, length + 1) for length in lengths]
        self.call = Call(loaded, rows, (3, 7), self._take, lambda: self.gone)

    def _take(self, answer: Answer) -> None:
        assert self.answer is None
        self.answer = answer
        self.done.set()

    def wait(self) -> Answer:
        assert self.done.wait(30)
        assert self.answer is not None
        return self.answer


@pytest.fixture
def recorded(encoder: Encoder) -> Recorded:
    return Recorded(encoder)


@pytest.fixture
def loaded(recorded: Recorded, sae: Sae) -> LoadedSae:
    return LoadedSae(recorded, sae, Fingerprints("m", "s", "t"))


def test_a_long_call_does_not_hold_up_short_ones(recorded: Recorded, loaded: LoadedSae) -> None:
    """A call of 40 passes runs when six short ones come: they are done after two more."""
    batcher = Batcher(LIMITS)
    long = Caller(loaded, [50] * 80)
    batcher.submit(long.call)
    assert recorded.began.wait(30)
    short = [Caller(loaded, [25]) for _ in range(6)]
    for caller in short:
        batcher.submit(caller.call)
    recorded.gate.set()
    for caller in [*short, long]:
        assert isinstance(caller.wait(), list)
    last_short = max(n for n, lengths in enumerate(recorded.passes) if 25 in lengths)
    assert last_short <= 2
    assert len(recorded.passes) >= 40
    assert any(set(lengths) == {25, 50} for lengths in recorded.passes)  # beside each other
    batcher.close()


def test_a_stream_of_short_calls_does_not_starve_a_long_one(
    recorded: Recorded, loaded: LoadedSae
) -> None:
    """Whoever comes later is not due earlier: the long call has its share of every few passes."""
    batcher = Batcher(LIMITS)
    long = Caller(loaded, [50] * 10)
    batcher.submit(long.call)
    short = [Caller(loaded, [50, 50]) for _ in range(30)]
    for caller in short:
        batcher.submit(caller.call)
    recorded.gate.set()
    rest = long.wait()
    assert isinstance(rest, list)
    assert len(rest) == 10
    for caller in short:
        caller.wait()
    assert [sum(lengths) <= 100 for lengths in recorded.passes].count(False) == 0
    batcher.close()


def test_rows_that_nobody_waits_for_are_left_out(recorded: Recorded, loaded: LoadedSae) -> None:
    """Between two passes: what ran is lost, what did not run never will."""
    batcher = Batcher(LIMITS)
    polled, forgotten, kept = (Caller(loaded, [n] * 40) for n in (50, 25, 20))
    batcher.submit(polled.call)
    assert recorded.began.wait(30)
    batcher.submit(forgotten.call)
    batcher.submit(kept.call)
    polled.gone = True
    batcher.forget(forgotten.call)
    recorded.gate.set()
    assert isinstance(kept.wait(), list)
    cancelled = polled.wait()
    assert isinstance(cancelled, SaexplainError)
    assert cancelled.status == "CANCELLED"
    assert forgotten.answer is None
    rows = [length for lengths in recorded.passes for length in lengths]
    assert rows.count(50) == 2
    assert rows.count(25) == 0
    assert (batcher.queued_tokens, batcher.queued_calls) == (0, 0)
    batcher.close()


def test_one_callers_broken_pass_fails_alone(recorded: Recorded, loaded: LoadedSae) -> None:
    """What torch raises is nobody's INTERNAL, and the neighbours of a pass are run again."""
    batcher = Batcher(LIMITS)
    first, good, bad = (Caller(loaded, [n]) for n in (100, 30, 40))
    recorded.breaks_on = 40
    batcher.submit(first.call)
    assert recorded.began.wait(30)
    batcher.submit(good.call)
    batcher.submit(bad.call)
    recorded.gate.set()
    assert isinstance(good.wait(), list)
    failure = bad.wait()
    assert isinstance(failure, Unavailable)
    assert "out of memory" in failure.message
    again = Caller(loaded, [5])
    batcher.submit(again.call)
    assert isinstance(again.wait(), list)
    batcher.close()


def test_room_is_bounded_in_tokens_and_in_calls(recorded: Recorded, loaded: LoadedSae) -> None:
    for limits in (
        EncoderLimits(max_queued_tokens=50, batch_token_budget=100),
        EncoderLimits(max_queued_calls=1, batch_token_budget=100),
    ):
        batcher = Batcher(limits)
        first = Caller(loaded, [60])  # alone, it is admitted whatever its size
        batcher.submit(first.call)
        with pytest.raises(ResourceExhausted) as caught:
            batcher.submit(Caller(loaded, [1]).call)
        assert caught.value.reason == "QUEUE_FULL"
        assert caught.value.retry_after_seconds
        recorded.gate.set()
        first.wait()
        batcher.submit(Caller(loaded, [1]).call)
        batcher.close()
        recorded.gate.clear()


def test_other_work_runs_between_passes_on_the_models_thread(
    recorded: Recorded, loaded: LoadedSae
) -> None:
    seen: list[PassFacts] = []
    batcher = Batcher(LIMITS, seen.append)
    recorded.gate.set()
    caller = Caller(loaded, [60, 60, 10])
    batcher.submit(caller.call)
    assert batcher.run(threading.current_thread).result(30).name == "encoder"
    caller.wait()
    with pytest.raises(ZeroDivisionError):
        batcher.run(lambda: 1 // 0).result(30)
    batcher.close()
    assert sum(facts.tokens for facts in seen) == 130
    assert [len(facts.waited_seconds) for facts in seen] == [1, 0]
    with pytest.raises(Unavailable):
        batcher.submit(Caller(loaded, [1]).call)


def test_advice_follows_the_measured_speed() -> None:
    """Busy time counts once however many run beside each other, idle time not at all."""
    meter = RateMeter()
    assert meter.seconds_for(4_000) == 2.0  # before anything was measured
    meter.start(10.0)
    meter.start(10.0)
    meter.finish(11.0, 500)
    meter.finish(12.0, 500)
    assert meter.tokens_per_second == pytest.approx(500, rel=0.01)
    meter.start(1_000.0)
    meter.finish(1_001.0, 500)
    assert meter.tokens_per_second == pytest.approx(500, rel=0.01)
    assert meter.seconds_for(5_000) == pytest.approx(10, rel=0.01)
    assert meter.seconds_for(1) == 0.1
