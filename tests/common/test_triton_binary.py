"""Finding the Triton server in its wheel."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from services.common.errors import FailedPrecondition
from services.common.triton_binary import TritonPorts, find_triton

pytestmark = pytest.mark.triton


def test_the_server_is_laid_out_once_and_whole(tmp_path: Path) -> None:
    """The second call changes nothing, and nothing half-written stays beside it."""
    binary = find_triton(tmp_path)
    server = binary.folder / "bin" / "tritonserver"
    stub = binary.folder / "backends" / "python" / "triton_python_backend_stub"
    assert os.access(server, os.X_OK)
    assert os.access(stub, os.X_OK)
    before = server.stat().st_ino
    assert find_triton(tmp_path) == binary
    assert server.stat().st_ino == before
    assert [path.name for path in binary.folder.parent.iterdir()] == [binary.folder.name]


def test_the_library_path_is_put_before_the_known_one(tmp_path: Path) -> None:
    """Dropping the caller's path would break a GPU driver that lies there."""
    binary = find_triton(tmp_path)
    environment = binary.environment({"LD_LIBRARY_PATH": "/driver", "A": "b"})
    folders = environment["LD_LIBRARY_PATH"].split(":")
    assert folders[-1] == "/driver"
    assert any((Path(folder) / "libpython3.11.so.1.0").exists() for folder in folders)
    assert environment["A"] == "b"


def test_only_named_ports_are_opened(tmp_path: Path) -> None:
    """Triton opens HTTP and metrics on all addresses unless told otherwise."""
    binary = find_triton(tmp_path)
    command = binary.command(tmp_path, TritonPorts(grpc=1, metrics=2))
    assert "--grpc-address=127.0.0.1" in command
    assert "--allow-http=false" in command
    assert "--metrics-address=127.0.0.1" in command
    assert "--metrics-port=2" in command


def test_a_missing_wheel_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wheel is optional and cannot be an ordinary dependency."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(FailedPrecondition) as caught:
        find_triton(tmp_path)
    assert "pip install --no-deps nvidia-pytriton" in caught.value.message
