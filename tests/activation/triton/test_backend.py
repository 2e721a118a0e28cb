"""The Triton backend against the real server. The in-process backend is the reference.

Load-bearing: dense and sparse values equal the reference for single, batched and mixed rows. A
broken tensor path delivers the right shapes with no bytes and no error.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from services.activation.encoder.inprocess import InProcessBackend
from services.activation.encoder.rows import TokenRow
from services.activation.registry import Registry
from services.activation.triton.backend import TritonBackend
from services.common.errors import InvalidArgument, NotFound, ResourceExhausted, Unavailable
from tests.activation.triton.conftest import LIMITS, RunningTriton, make_backend

pytestmark = pytest.mark.triton

SAES = ("tiny-topk", "tiny-relu", "tiny-jumprelu")
TOLERANCE = 1e-4
FEATURES = (5, 3, 95, 0, 40)


def make_rows(lengths: Sequence[int], seed: int = 0) -> list[TokenRow]:
    rng = np.random.default_rng(seed)
    return [np.array([1, *rng.integers(2, 400, length - 1)], dtype=np.int64) for length in lengths]


MIXED = (17, 1, 200, 2, 90, 33, 200, 5)


async def reference_maxima(backend: InProcessBackend, sae_id: str) -> np.ndarray:
    """Largest value per feature over plenty of text: the scale of the tolerance."""
    rows = make_rows([150] * 12, seed=9)
    dense = await backend.encode(sae_id, rows, range(96))
    return np.concatenate(dense).max(axis=0)


def assert_close(found: np.ndarray, expected: np.ndarray, scale: np.ndarray) -> None:
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    assert np.all(np.abs(found - expected) <= TOLERANCE * scale)


@pytest.mark.parametrize("sae_id", SAES)
@pytest.mark.parametrize("lengths", [(40,), (30,) * 8, MIXED], ids=["single", "batched", "mixed"])
async def test_dense_values_equal_the_in_process_backend(
    backend: TritonBackend, in_process: InProcessBackend, sae_id: str, lengths: tuple[int, ...]
) -> None:
    """Guards against rows, columns or pieces of a call that come back in another order."""
    rows = make_rows(lengths)
    scale = (await reference_maxima(in_process, sae_id))[list(FEATURES)]
    found = await backend.encode(sae_id, rows, FEATURES)
    expected = await in_process.encode(sae_id, rows, FEATURES)
    assert len(found) == len(rows)
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other, scale)
    if sae_id == "tiny-relu":  # dense enough that all zeros cannot pass for values
        assert np.concatenate(found).max() > 0


@pytest.mark.parametrize("sae_id", SAES)
@pytest.mark.parametrize("lengths", [(40,), (30,) * 8, MIXED], ids=["single", "batched", "mixed"])
async def test_sparse_values_equal_the_in_process_backend(
    backend: TritonBackend, in_process: InProcessBackend, sae_id: str, lengths: tuple[int, ...]
) -> None:
    """Guards against CSR parts cut at the wrong places."""
    rows = make_rows(lengths)
    scale = await reference_maxima(in_process, sae_id)
    found = await backend.encode_sparse(sae_id, rows)
    expected = await in_process.encode_sparse(sae_id, rows)
    assert sum(len(row.values) for row in found) > 0
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.indptr, other.indptr)
        np.testing.assert_array_equal(one.features, other.features)
        assert_close(one.values, other.values, scale[one.features])


async def test_a_row_without_any_activation_comes_back_empty(backend: TritonBackend) -> None:
    """Only the unscored first token: empty tensors have strides that Triton refuses."""
    (row,) = await backend.encode_sparse("tiny-topk", make_rows([1]))
    assert row.indptr.tolist() == [0, 0]
    assert len(row.features) == len(row.values) == 0


async def test_concurrent_callers_are_each_answered_with_their_own(
    backend: TritonBackend, in_process: InProcessBackend
) -> None:
    """Callers share batches: one must not get another's rows, features or SAE."""

    async def ask(number: int, asked: TritonBackend | InProcessBackend) -> list[np.ndarray]:
        rows = make_rows([3 + number, 60 - number], seed=number)
        features = [number, 95 - number, 7]
        return await asked.encode(SAES[number % 3], rows, features)

    numbers = range(24)
    found = await asyncio.gather(*(ask(number, backend) for number in numbers))
    for number in numbers:
        scale = await reference_maxima(in_process, SAES[number % 3])
        expected = await ask(number, in_process)
        for one, other in zip(found[number], expected, strict=True):
            assert_close(one, other, scale[[number, 95 - number, 7]])


async def test_a_bad_request_among_good_ones_fails_alone_and_typed(
    backend: TritonBackend,
) -> None:
    """In one batch of Triton, one caller's mistake is nobody else's."""
    good = [backend.encode("tiny-topk", make_rows([20], seed=i), [i]) for i in range(6)]
    bad_feature = backend.encode("tiny-topk", make_rows([20]), [1, 96])
    bad_token = backend.encode("tiny-topk", [np.array([1, 400])], [1])
    results = await asyncio.gather(*good, bad_feature, bad_token, return_exceptions=True)
    assert [type(result) for result in results[:6]] == [list] * 6
    feature_error, token_error = results[6:]
    assert isinstance(feature_error, InvalidArgument)
    assert feature_error.reason == "FEATURE_OUT_OF_RANGE"
    assert feature_error.violations[0].field == "features[1]"
    assert isinstance(token_error, InvalidArgument)
    assert token_error.violations[0].field == "rows[0]"


async def test_a_bad_row_is_named_by_its_place_in_the_whole_call(backend: TritonBackend) -> None:
    """The call is cut into pieces; the index in the error must not be the piece's."""
    rows = [*make_rows([200, 200, 200]), np.array([1, 399]), np.array([1, 400])]
    with pytest.raises(InvalidArgument) as caught:
        await backend.encode("tiny-relu", rows, [1])
    assert caught.value.violations[0].field == "rows[4]"


async def test_an_unknown_sae_is_not_found_by_the_registry_and_by_triton(
    backend: TritonBackend, triton: RunningTriton, registry: Registry
) -> None:
    """The second case: a front whose registry is ahead of the server's."""
    with pytest.raises(NotFound) as caught:
        await backend.encode("nothing", make_rows([3]), [0])
    assert caught.value.reason == "SAE_NOT_FOUND"
    ahead = registry.model_copy(
        update={"saes": {**registry.saes, "new": registry.saes["tiny-relu"]}}
    )
    front = make_backend(triton.address, ahead)
    with pytest.raises(NotFound) as caught:
        await front.fingerprints("new")
    assert caught.value.reason == "SAE_NOT_FOUND"
    await front.close()


@pytest.mark.parametrize("sae_id", SAES)
async def test_triton_reports_the_fingerprints_of_what_it_loaded(
    backend: TritonBackend, in_process: InProcessBackend, sae_id: str
) -> None:
    """Equal to those of the same files in this process, so that a front can compare."""
    assert await backend.fingerprints(sae_id) == await in_process.fingerprints(sae_id)
    description = await backend.describe(sae_id)
    assert (description.d_in, description.d_sae) == (32, 96)


async def test_limits_hold_before_anything_is_sent(
    backend: TritonBackend, triton: RunningTriton, registry: Registry
) -> None:
    """Bounds are those of the in-process backend, with the same reasons."""
    cases = [
        ([], [0], "TOO_MANY_ITEMS"),
        (make_rows([2] * 65), [0], "TOO_MANY_ITEMS"),
        (make_rows([2]), [], "TOO_MANY_ITEMS"),
        (make_rows([201]), [0], "TEXT_TOO_LONG"),
        ([np.array([], dtype=np.int64)], [0], "TEXT_EMPTY"),
    ]
    for rows, features, reason in cases:
        with pytest.raises(InvalidArgument) as caught:
            await backend.encode("tiny-topk", rows, features)
        assert caught.value.reason == reason
    narrow = make_backend(
        triton.address, registry, dataclasses.replace(LIMITS, max_queued_tokens=100)
    )
    first, second = await asyncio.gather(
        narrow.encode("tiny-topk", make_rows([101]), [0]),
        narrow.encode("tiny-topk", make_rows([101]), [0]),
        return_exceptions=True,
    )
    assert isinstance(first, list)  # nothing else was waiting: a repeat would never find more room
    assert isinstance(second, ResourceExhausted)
    assert second.reason == "QUEUE_FULL"
    assert second.retry_after_seconds
    await narrow.close()


async def test_a_cancelled_call_leaves_nothing_behind(backend: TritonBackend) -> None:
    """Tokens of a call that nobody waits for must not count as queued for ever."""
    call = asyncio.create_task(backend.encode("tiny-relu", make_rows([200] * 60), range(96)))
    while not backend.queued_tokens:  # noqa: ASYNC110 (nobody signals it)
        await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert backend.queued_tokens == 0
    assert len(await backend.encode("tiny-relu", make_rows([3]), [0])) == 1


async def test_an_answer_that_takes_too_long_is_unavailable(
    triton: RunningTriton, registry: Registry
) -> None:
    """A stuck server must not hold callers; asking again would only add to its load."""
    hasty = make_backend(triton.address, registry, timeout_seconds=1e-4)
    with pytest.raises(Unavailable) as caught:
        await hasty.fingerprints("tiny-relu")
    assert caught.value.reason == "BACKEND_UNAVAILABLE"
    await hasty.close()


async def test_a_closed_backend_refuses(triton: RunningTriton, registry: Registry) -> None:
    """Draining must end with an answer, not with a broken channel."""
    closed = make_backend(triton.address, registry)
    await closed.close()
    with pytest.raises(Unavailable):
        await closed.encode("tiny-relu", make_rows([3]), [0])
