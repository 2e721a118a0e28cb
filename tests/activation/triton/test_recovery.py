"""What callers see when the model's process or the whole server is killed."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from services.activation.registry import Registry
from services.activation.triton.backend import TritonBackend
from services.common.errors import FailedPrecondition, Unavailable
from tests.activation import tiny
from tests.activation.triton.conftest import (
    RunningTriton,
    make_backend,
    running_triton,
    write_registry,
)
from tests.activation.triton.test_backend import make_rows

pytestmark = pytest.mark.triton


@pytest.fixture(scope="module")
def disposable_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("disposable")


@pytest.fixture(scope="module")
def disposable(disposable_folder: Path, model_folder: Path) -> Iterator[RunningTriton]:
    """A server of this module's own; the last test kills it."""
    registry_path = write_registry(disposable_folder, model_folder)
    with running_triton(registry_path, disposable_folder) as running:
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
