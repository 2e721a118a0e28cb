"""What callers see when the model's process or the whole server is killed."""

from __future__ import annotations

import socket

import numpy as np
import pytest

from services.activation.registry import Registry
from services.activation.triton.backend import TritonBackend
from services.common.errors import Unavailable
from tests.activation.triton.conftest import RunningTriton, make_backend
from tests.activation.triton.test_backend import make_rows

pytestmark = pytest.mark.triton


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


async def test_a_killed_server_is_unavailable(
    triton_to_kill: RunningTriton, registry: Registry
) -> None:
    """The caller learns it within the recovery time, with a typed error; the supervisor ends."""
    backend = make_backend(triton_to_kill.address, registry, recovery_seconds=0.5)
    assert await backend.encode("tiny-relu", make_rows([3]), [0])
    triton_to_kill.server().kill()
    with pytest.raises(Unavailable) as caught:
        await backend.encode("tiny-relu", make_rows([3]), [0])
    assert caught.value.reason == "BACKEND_UNAVAILABLE"
    await backend.close()
    assert triton_to_kill.supervisor.wait(timeout=30) != 0
