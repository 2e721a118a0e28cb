"""Our services as processes, asked over gRPC by this one, which shares the machine's cores."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.throughput.material import FEATURES, SAE_ID, Material
from saexplain.activation.v1 import activation_pb2 as pb
from saexplain.activation.v1 import activation_pb2_grpc

_ROOT = Path(__file__).parents[2]
_START_SECONDS = 180
_STOP_SECONDS = 30
T = TypeVar("T")

_NO_LIMIT = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


class Client:
    """One channel and an event loop of its own, so that its start is no part of a measurement."""

    def __init__(self, address: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._channel = self._run(self._open(address))
        self._stub: Any = activation_pb2_grpc.ActivationServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._run(self._channel.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def all_texts(self, texts: Sequence[str], features: Sequence[int] = FEATURES) -> int:
        """One call with all texts; tokens answered."""
        return self._run(self._encode(texts, features))

    def one_text_each(self, texts: Sequence[str], callers: int) -> int:
        """``callers`` callers at once, each with one text at a time, until all are answered."""
        return self._run(self._share(texts, callers))

    async def _open(self, address: str) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(address, options=_NO_LIMIT)

    async def _share(self, texts: Sequence[str], callers: int) -> int:
        left = list(texts)

        async def call() -> int:
            tokens = 0
            while left:
                tokens += await self._encode([left.pop()], FEATURES)
            return tokens

        return sum(await asyncio.gather(*(call() for _ in range(callers))))

    async def _encode(self, texts: Sequence[str], features: Sequence[int]) -> int:
        """Ask, and read every value that comes back."""
        inputs = [pb.TextInput(text=text) for text in texts]
        request = pb.EncodeRequest(
            sae=f"saes/{SAE_ID}", texts=inputs, feature_indices=list(features)
        )
        tokens = 0
        async for page in self._stub.Encode(request):
            for text in page.texts:
                values = np.frombuffer(text.activations.data, dtype="<f4")
                tokens += len(values.reshape(-1, len(features)))
        return tokens

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def check_answers(client: Client, material: Material) -> None:
    """A service that answers less than was asked is fast for nothing."""
    expected = material.token_count - len(material.rows)
    found = client.all_texts(material.texts)
    if found != expected:
        raise SystemExit(f"{found} tokens answered, {expected} were asked for")


def ways(
    in_process: Client, triton: Client, material: Material
) -> dict[str, Callable[[int, int], int]]:
    """The served arms by name; each runs the texts from one index up to another."""
    texts = material.texts
    return {
        "ours, gRPC, one caller": lambda b, e: in_process.all_texts(texts[b:e]),
        "ours, gRPC, 64 callers, one text each": lambda b, e: in_process.one_text_each(
            texts[b:e], 64
        ),
        "ours, gRPC and Triton, one caller": lambda b, e: triton.all_texts(texts[b:e]),
    }


@contextlib.contextmanager
def front(threads: int, log: Path, **settings: str) -> Iterator[str]:
    """``python -m services.activation`` until the end of the body; its address."""
    address = f"127.0.0.1:{_free_port()}"
    environment = {
        "SAEXPLAIN_ACTIVATION_LISTEN": address,
        "SAEXPLAIN_ACTIVATION_TORCH_THREADS": str(threads),
        "OMP_NUM_THREADS": str(threads),
        "SAEXPLAIN_ACTIVATION_ROW_CACHE_BYTES": "0",
        **settings,
    }
    with _process(["-m", "services.activation"], environment, log) as process:
        _wait_serving(address, process, log)
        yield address


@contextlib.contextmanager
def triton_front(threads: int, folder: Path) -> Iterator[str]:
    """Triton under its supervisor, and a front that asks it; the front's address."""
    address = f"127.0.0.1:{_free_port()}"
    environment = {
        "SAEXPLAIN_TRITON_LISTEN": address,
        "SAEXPLAIN_ACTIVATION_TORCH_THREADS": str(threads),
        "OMP_NUM_THREADS": str(threads),
    }
    log = folder / "triton.log"
    with _process(["-m", "services.activation.triton"], environment, log) as process:
        _wait_serving(address, process, log)
        settings = {
            "SAEXPLAIN_ACTIVATION_BACKEND": "triton",
            "SAEXPLAIN_TRITON_ADDRESS": address,
        }
        with front(threads, folder / "triton-front.log", **settings) as served:
            yield served


@contextlib.contextmanager
def _process(
    arguments: Sequence[str], environment: dict[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=_ROOT,
            env={**os.environ, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_serving(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    with grpc.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        while time.monotonic() < deadline and process.poll() is None:
            try:
                reply = health.Check(health_pb2.HealthCheckRequest(), timeout=5)
            except grpc.RpcError:
                time.sleep(0.3)
                continue
            if reply.status == health_pb2.HealthCheckResponse.SERVING:
                return
            time.sleep(0.3)
    raise SystemExit(f"a service did not start:\n{log.read_text()[-2_000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
