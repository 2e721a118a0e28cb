"""The executor without Triton: grouping, cancellation, and one answer per request.

Load-bearing: whatever a batch holds, every request is answered exactly once. Triton waits for
ever for one that is not.
"""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from services.activation.encoder.batcher import Batcher
from services.activation.loading import RegistryLoader
from services.activation.registry import Registry
from services.activation.triton import wire
from services.activation.triton.executor import Answer, Executor, Pending
from services.activation.triton.wire import Request, Task
from services.common.errors import SaexplainError
from tests.activation.triton.conftest import LIMITS


def never() -> bool:
    return False


@pytest.fixture
def executor(registry: Registry, tmp_path: Path) -> Iterator[Executor]:
    limits = dataclasses.replace(LIMITS, batch_token_budget=64)
    executor = Executor(RegistryLoader(registry, tmp_path, "cpu", limits), Batcher(limits), limits)
    yield executor
    executor.close()


def run(
    executor: Executor, tensors: list[wire.Tensors], cancelled: Callable[[], bool] = never
) -> list[list[Answer]]:
    """The answers that each request of a batch got."""
    answers: list[list[Answer]] = [[] for _ in tensors]
    missing = threading.Semaphore(0)

    def keep(got: list[Answer], answer: Answer) -> None:
        got.append(answer)
        missing.release()

    executor.execute(
        [
            Pending(one, cancelled, functools.partial(keep, got))
            for one, got in zip(tensors, answers, strict=True)
        ]
    )
    for _ in tensors:
        assert missing.acquire(timeout=60)
    return answers


def dense(length: int, *features: int, sae_id: str = "tiny-relu") -> dict[str, np.ndarray]:
    row = np.arange(1, length + 1)
    return dict(wire.encode_request(Request(Task.DENSE, sae_id, (row,), features)))


def test_every_request_of_a_mixed_batch_is_answered_once(executor: Executor) -> None:
    """Good, bad, malformed, other tasks and other SAEs in one batch."""
    missing = dense(5, 1)
    del missing["lengths"]
    batch = [
        dense(5, 1),
        dense(5, 96),
        missing,
        dense(5, 1, sae_id="nothing"),
        {"task": np.array([77], np.uint8), "sae_id": np.array([1], np.uint8)},
        wire.encode_request(Request(Task.SPARSE, "tiny-topk", (np.arange(1, 9),))),
        wire.encode_request(Request(Task.DESCRIBE, "tiny-topk")),
        dense(5, 2, 3),
    ]
    answers = run(executor, batch)
    assert [len(got) for got in answers] == [1] * len(batch)
    reasons = [got[0].reason if isinstance(got[0], SaexplainError) else "" for got in answers]
    expected = ["FEATURE_OUT_OF_RANGE", "FIELD_INVALID", "SAE_NOT_FOUND", "FIELD_INVALID"]
    assert reasons == ["", *expected, "", "", ""]


def test_answers_do_not_depend_on_who_shares_the_batch(executor: Executor) -> None:
    """Other features in the union, repeated and unordered ones, and more tokens than a group."""
    asked = [dense(20, 9, 3, 9), dense(30, 50), dense(30, 60, 61), dense(40, 3), dense(7, 1, 2)]
    together = run(executor, asked)
    for tensors, (answer,) in zip(asked, together, strict=True):
        ((alone,),) = run(executor, [tensors])
        assert isinstance(answer, dict)
        assert isinstance(alone, dict)
        np.testing.assert_allclose(answer["values"], alone["values"], atol=1e-4)
        assert alone["values"].any()


def test_requests_that_nobody_waits_for_are_not_computed(executor: Executor) -> None:
    """They still get their one answer."""
    ((answer,),) = run(executor, [dense(20, 1)], cancelled=lambda: True)
    assert isinstance(answer, SaexplainError)
    assert answer.status == "CANCELLED"


def test_the_next_pass_does_not_wait_until_an_answer_is_sent(
    registry: Registry, tmp_path: Path
) -> None:
    """Guards against a model that idles while Triton takes over what it has computed."""
    passes, sent, later = threading.Semaphore(0), threading.Event(), list[Answer]()
    batcher = Batcher(LIMITS, lambda _facts: passes.release())
    executor = Executor(RegistryLoader(registry, tmp_path, "cpu", LIMITS), batcher, LIMITS)
    try:
        executor.execute([Pending(dense(5, 1), never, lambda _answer: sent.wait(60))])
        assert passes.acquire(timeout=60)
        executor.execute([Pending(dense(5, 2), never, later.append)])
        assert passes.acquire(timeout=10)
        assert not later
    finally:
        sent.set()
        executor.close()
    assert len(later) == 1
