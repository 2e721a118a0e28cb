"""A real Triton server over the tiny model, one for all tests of this folder."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.activation.encoder.backend import EncoderLimits
from services.activation.encoder.inprocess import InProcessBackend
from services.activation.loading import RegistryLoader
from services.activation.registry import Registry, load_registry
from services.activation.triton.backend import TritonBackend
from services.activation.triton.repository import triton_model_name
from services.activation.triton.supervisor import end_with_parent
from tests.activation import tiny

LIMITS = EncoderLimits(max_rows=64, max_row_tokens=200, max_features=96, batch_token_budget=256)
START_SECONDS = 200


@dataclass(frozen=True)
class RunningTriton:
    """A supervised server."""

    address: str
    supervisor: psutil.Process

    def server(self) -> psutil.Process:
        """The `tritonserver` of this moment."""
        return next(p for p in self.supervisor.children() if p.name() == "tritonserver")

    def stub(self) -> psutil.Process:
        """The process in which the model runs."""
        return next(p for p in self.server().children() if p.name().startswith("triton_python"))

    def wait_ready(self) -> None:
        """Returns when the server calls itself ready."""
        deadline = time.monotonic() + START_SECONDS
        with grpc.insecure_channel(self.address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            while time.monotonic() < deadline and self.supervisor.is_running():
                try:
                    reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
                    if reply.status == health_pb2.HealthCheckResponse.SERVING:
                        return
                except grpc.RpcError:
                    time.sleep(0.2)
        raise AssertionError("Triton did not get ready")


@pytest.fixture(scope="session")
def registry_path(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_registry(tmp_path_factory.mktemp("registry"), model_folder)


def write_registry(folder: Path, model_folder: Path) -> Path:
    """Three SAEs of different kinds below `folder`, and the registry that names them."""
    saes = {
        "tiny-topk": tiny.write_sae(folder / "topk", "topk"),
        "tiny-relu": tiny.write_sae(folder / "relu", "standard", seed=1),
        "tiny-jumprelu": tiny.write_sae(folder / "jumprelu", "jumprelu", seed=2),
    }
    registry = {
        "models": {"tiny": {"folder": str(model_folder)}},
        "saes": {name: {"model": "tiny", "folder": str(path)} for name, path in saes.items()},
    }
    path = folder / "registry.yaml"
    path.write_text(yaml.safe_dump(registry))
    return path


@pytest.fixture(scope="session")
def registry(registry_path: Path) -> Registry:
    return load_registry(registry_path)


@pytest.fixture(scope="session")
def triton(
    registry_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningTriton]:
    """The server of this folder's tests."""
    with running_triton(registry_path, tmp_path_factory.mktemp("triton")) as running:
        yield running


@contextlib.contextmanager
def running_triton(registry_path: Path, folder: Path, **changes: str) -> Iterator[RunningTriton]:
    """A server that always ends: its whole process group is killed where asking does not help.

    Args:
        changes: Environment variables of the server.
    """
    address = changes.get("SAEXPLAIN_TRITON_LISTEN", f"127.0.0.1:{_free_port()}")
    environment = os.environ | {
        "SAEXPLAIN_TRITON_LISTEN": address,
        "SAEXPLAIN_REGISTRY": str(registry_path),
        "SAEXPLAIN_CACHE_DIR": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
        **changes,
    }
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.activation.triton"],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=end_with_parent,  # also where the tests themselves are killed
        )
    running = RunningTriton(address, psutil.Process(process.pid))
    try:
        _wait_ready(running, folder / "log")
        yield running
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        finally:
            _kill_group(process.pid)
            process.wait()


@pytest.fixture
async def backend(triton: RunningTriton, registry: Registry) -> AsyncIterator[TritonBackend]:
    backend = make_backend(triton.address, registry)
    try:
        yield backend
    finally:
        await backend.close()


@pytest.fixture
async def in_process(registry: Registry, tmp_path: Path) -> AsyncIterator[InProcessBackend]:
    backend = InProcessBackend(RegistryLoader(registry, tmp_path, "cpu", LIMITS), LIMITS)
    try:
        yield backend
    finally:
        await backend.close()


def make_backend(
    address: str,
    registry: Registry,
    limits: EncoderLimits = LIMITS,
    *,
    recovery_seconds: float = 200.0,
    timeout_seconds: float = 60.0,
) -> TritonBackend:
    """A backend as the front makes it."""

    def model_of(sae_id: str) -> str:
        return triton_model_name(registry.sae(sae_id).model, "cpu")

    return TritonBackend(
        address,
        model_of,
        limits,
        timeout_seconds=timeout_seconds,
        recovery_seconds=recovery_seconds,
    )


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_ready(running: RunningTriton, log: Path) -> None:
    try:
        running.wait_ready()
    except AssertionError as error:
        raise AssertionError(f"{error}:\n{log.read_text()[-4000:]}") from error


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return
