"""What callers see when the model's process or the whole server is killed."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from services.activation.registry import Registry
from services.activation.triton.backend import TritonBackend
from services.common.errors import FailedPrecondition, ResourceExhausted, Unavailable
from tests.activation import tiny
from tests.activation.triton.conftest import (
    LIMITS,
    RunningTriton,
    make_backend,
    running_triton,
    write_registry,
)
from tests.activation.triton.test_backend import make_rows

pytestmark = pytest.mark.triton


SMALL = {
    "SAEXPLAIN_ACTIVATION_MAX_QUEUED_TOKENS": "12500",
    "SAEXPLAIN_ACTIVATION_BATCH_TOKEN_BUDGET": "64",
}
"""A queue that is soon full, and passes small enough to stop between them."""


@pytest.fixture(scope="module")
def disposable_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("disposable")


@pytest.fixture(scope="module")
def disposable(disposable_folder: Path, model_folder: Path) -> Iterator[RunningTriton]:
    """A server of this module's own; the last test kills it."""
    registry_path = write_registry(disposable_folder, model_folder)
    with running_triton(registry_path, disposable_folder, **SMALL) as running:
        yield running


async def test_a_killed_model_process_is_replaced_and_the_call_succeeds(
    backend: TritonBackend, triton: RunningTriton
) -> None:
    """Triton alone would fail every later request and still call itself ready."""
    rows = make_rows([30, 8])
    before = await backend.encode("tiny-relu", rows, [1, 2, 3])
    triton.stub().kill()
    after = await backend.encode("tiny-relu", rows, [1, 2, 3])
    np.testing.assert_array_equal(np.concatenate(after), np.concatenate(before))


async def test_nobody_listening_is_unavailable(registry: Registry) -> None:
    """A server that was never there, as after a killed server that nobody starts again."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        lonely = make_backend(
            f"127.0.0.1:{unused.getsockname()[1]}", registry, recovery_seconds=0.2
        )
        with pytest.raises(Unavailable) as caught:
            await lonely.encode("tiny-relu", make_rows([3]), [0])
        await lonely.close()
    assert caught.value.reason == "BACKEND_UNAVAILABLE"


async def test_other_weights_under_a_known_name_are_refused(
    disposable: RunningTriton, disposable_folder: Path, registry: Registry
) -> None:
    """A restarted model reads its files anew: its values must not pass for those of before."""
    backend = make_backend(disposable.address, registry)
    await backend.encode("tiny-relu", make_rows([3]), [0])
    await backend.encode("tiny-jumprelu", make_rows([3]), [0])
    tiny.write_sae(disposable_folder / "jumprelu", "jumprelu", seed=77)
    disposable.stub().kill()
    assert await backend.encode("tiny-relu", make_rows([3]), [0])
    for _ in range(2):
        with pytest.raises(FailedPrecondition) as caught:
            await backend.encode("tiny-jumprelu", make_rows([3]), [0])
        assert caught.value.reason == "FINGERPRINT_MISMATCH"
    await backend.close()


async def test_a_full_model_refuses_and_says_when_to_come_back(
    disposable: RunningTriton, registry: Registry
) -> None:
    """The model's own bound, over the wire: a front that knows of no other front cannot hold it."""
    wide = dataclasses.replace(LIMITS, batch_token_budget=12_000)
    backend = make_backend(disposable.address, registry, wide)
    rows = make_rows([200] * 60)
    await backend.fingerprints("tiny-relu")
    calls = [backend.encode("tiny-relu", rows, [0]) for _ in range(8)]
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert any(isinstance(one, list) for one in found)
    refused = [one for one in found if isinstance(one, BaseException)]
    assert refused
    for error in refused:
        assert isinstance(error, ResourceExhausted)
        assert error.reason == "QUEUE_FULL"
        assert error.retry_after_seconds
    assert len(await backend.encode("tiny-relu", rows, [0])) == 60
    await backend.close()


async def test_room_of_cancelled_calls_comes_back(
    disposable: RunningTriton, registry: Registry
) -> None:
    """A cancellation reaches the model: else these calls would fill its queue for the last."""
    wide = dataclasses.replace(LIMITS, batch_token_budget=12_000)
    backend = make_backend(disposable.address, registry, wide)
    rows = make_rows([200] * 60)
    await backend.fingerprints("tiny-relu")
    for _ in range(4):
        call = asyncio.create_task(backend.encode("tiny-relu", rows, range(96)))
        while not backend.queued_tokens:  # noqa: ASYNC110 (nobody signals it)
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        call.cancel()
        await asyncio.wait([call])
    async with asyncio.timeout(60):
        while True:
            try:
                assert len(await backend.encode("tiny-relu", rows, [0])) == 60
                break
            except ResourceExhausted:
                await asyncio.sleep(0.05)
    await backend.close()


async def test_a_restarted_server_is_found_again(
    model_folder: Path, registry: Registry, tmp_path: Path
) -> None:
    """The front keeps its channel: a call made while nobody listens waits for the new server."""
    registry_path = write_registry(tmp_path, model_folder)
    with running_triton(registry_path, tmp_path) as first:
        backend = make_backend(first.address, registry)
        before = await backend.encode("tiny-relu", make_rows([9]), [1, 2])
    call = asyncio.create_task(backend.encode("tiny-relu", make_rows([9]), [1, 2]))
    await asyncio.sleep(0.1)
    starting = running_triton(registry_path, tmp_path, SAEXPLAIN_TRITON_LISTEN=first.address)
    with contextlib.ExitStack() as stack:
        await asyncio.to_thread(stack.enter_context, starting)
        np.testing.assert_array_equal(np.concatenate(await call), np.concatenate(before))
    await backend.close()


async def test_a_killed_server_is_unavailable(
    disposable: RunningTriton, registry: Registry
) -> None:
    """The caller learns it within the recovery time, with a typed error; the supervisor ends."""
    backend = make_backend(disposable.address, registry, recovery_seconds=0.5)
    assert await backend.encode("tiny-relu", make_rows([3]), [0])
    disposable.server().kill()
    with pytest.raises(Unavailable) as caught:
        await backend.encode("tiny-relu", make_rows([3]), [0])
    assert caught.value.reason == "BACKEND_UNAVAILABLE"
    await backend.close()
    assert disposable.supervisor.wait(timeout=30) != 0
