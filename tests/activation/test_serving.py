"""The front as callers and operators meet it: health, drain, deadlines, full queues, metrics.

Load-bearing: ``test_a_front_says_when_it_is_ready_and_loses_nothing_when_it_ends``, on a real
process with a real signal.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry

from saexplain.activation.v1 import activation_pb2 as pb
from saexplain.activation.v1.activation_pb2_grpc import ActivationServiceStub
from services.activation.bootstrap import SERVICE, front, to_preload
from services.activation.pipeline import ahead
from services.activation.registry import load_registry
from services.activation.settings import ActivationSettings
from services.common.errors import NotFound
from services.common.grpc_client import from_rpc_error, open_channel
from services.common.metrics import RpcMetrics
from tests.activation.stack import front_stub, settings, stub_of
from tests.activation.triton.conftest import write_registry

METRICS = Path(__file__).parents[2] / "docs" / "METRICS.md"
SAE = "saes/tiny-relu"


@pytest.fixture(scope="module")
def registry_file(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_registry(tmp_path_factory.mktemp("registry"), model_folder)


def encode(count: int, text: str = "the old dog sleeps", **overrides: Any) -> pb.EncodeRequest:
    texts = [pb.TextInput(text=text)] * count
    values = {"sae": SAE, "texts": texts, "feature_indices": [3, 90], **overrides}
    return pb.EncodeRequest(**values)


async def count_texts(pages: Any) -> int:
    return sum([len(page.texts) async for page in pages])


@asynccontextmanager
async def process(registry: Path, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = os.environ | {
        "SAEXPLAIN_REGISTRY": str(registry),
        "SAEXPLAIN_CACHE_DIR": str(folder / "cache"),
        "SAEXPLAIN_INDEX_DIR": str(folder / "indexes"),
        "SAEXPLAIN_ACTIVATION_LISTEN": "127.0.0.1:0",
        "SAEXPLAIN_ACTIVATION_METRICS_LISTEN": "127.0.0.1:0",
        "SAEXPLAIN_ACTIVATION_PRELOAD": "tiny-relu, tiny-topk",
        "SAEXPLAIN_ACTIVATION_ROW_CACHE_BYTES": "0",
        "OMP_NUM_THREADS": "1",
    }
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.activation"),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


async def address_of(started: asyncio.subprocess.Process, event: str) -> str:
    assert started.stdout is not None
    async for line in started.stdout:
        if f'"{event}"'.encode() in line:
            return re.search(r'"address": "([^"]+)"', line.decode()).group(1)  # type: ignore[union-attr]
    raise AssertionError(f"the front ended before {event}")


async def test_a_front_says_when_it_is_ready_and_loses_nothing_when_it_ends(
    registry_file: Path, tmp_path: Path
) -> None:
    serving = health_pb2.HealthCheckResponse
    async with process(registry_file, tmp_path) as started:
        metrics = await address_of(started, "metrics")
        address = await address_of(started, "listening")
        async with open_channel(address) as channel, open_channel(address) as other:
            watch = health_pb2_grpc.HealthStub(other).Watch(
                health_pb2.HealthCheckRequest(service=SERVICE)
            )
            states = [(await watch.read()).status]
            while states[-1] != serving.SERVING:
                states.append((await watch.read()).status)
            assert states[0] == serving.NOT_SERVING
            stub = ActivationServiceStub(channel)
            pages = stub.Encode(encode(2_000, "the old dog sleeps under the red stone " * 4))
            got = len((await anext(aiter(pages))).texts)
            scraped = await asyncio.to_thread(lambda: urlopen(f"http://{metrics}/metrics").read())
            assert b"saexplain_activation_loaded_saes 2.0" in scraped
            assert b'saexplain_rpc_in_flight{method="Encode"} 1.0' in scraped
            started.send_signal(signal.SIGTERM)
            while (await watch.read()).status == serving.SERVING:
                pass
            await logged(started, "draining")
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await count_texts(ActivationServiceStub(other).Encode(encode(1)))
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            assert got + await count_texts(pages) == 2_000
        assert await asyncio.wait_for(started.wait(), 30) == 0


async def logged(started: asyncio.subprocess.Process, event: str) -> None:
    """Returns when the front has logged ``event``."""
    assert started.stdout is not None
    async for line in started.stdout:
        if f'"{event}"'.encode() in line:
            return


async def test_a_passed_deadline_leaves_nothing_behind(registry_file: Path, tmp_path: Path) -> None:
    chosen = settings(registry_file, tmp_path, row_cache_bytes=0, batch_token_budget=64)
    registry = load_registry(chosen.registry)
    async with front(chosen, registry) as parts, stub_of(parts.servicer) as stub:
        await count_texts(stub.Encode(encode(1)))
        for call in (stub.Encode(encode(3_000), timeout=0.05), stub.Encode(encode(3_000))):
            asyncio.get_running_loop().call_later(0.05, call.cancel)
            with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
                await count_texts(call)
        while parts.servicer.admission.calls:  # noqa: ASYNC110 (nobody signals it)
            await asyncio.sleep(0.01)
        assert parts.servicer.admission.tokens == 0
        batcher = parts.engine.batcher  # type: ignore[attr-defined]
        while batcher.queued_calls:  # noqa: ASYNC110 (nobody signals it)
            await asyncio.sleep(0.01)
        assert batcher.queued_tokens == 0
        assert await count_texts(stub.Encode(encode(3))) == 3


async def test_one_bad_text_is_named_and_harms_no_other_caller(
    registry_file: Path, tmp_path: Path
) -> None:
    bad = encode(5)
    bad.texts[3].text = ""
    async with front_stub(settings(registry_file, tmp_path)) as stub:
        found = await asyncio.gather(
            *(count_texts(stub.Encode(one)) for one in (encode(4), bad, encode(7))),
            return_exceptions=True,
        )
    assert found[0] == 4
    assert found[2] == 7
    assert isinstance(found[1], grpc.aio.AioRpcError)
    error = from_rpc_error(found[1])
    assert [violation.field for violation in error.violations] == ["texts[3]"]


async def test_a_full_queue_is_refused_with_a_time_to_come_back(
    registry_file: Path, tmp_path: Path
) -> None:
    """The first call has nothing before it and is taken, though it alone is more than the bound."""
    chosen = settings(registry_file, tmp_path, max_queued_tokens=500, row_cache_bytes=0)
    async with front_stub(chosen) as stub:
        calls = [count_texts(stub.Encode(encode(2_000))) for _ in range(4)]
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert 2_000 in found
        refused = [from_rpc_error(f) for f in found if isinstance(f, grpc.aio.AioRpcError)]
        assert {error.reason for error in refused} == {"QUEUE_FULL"}
        assert all(error.retry_after_seconds for error in refused)
        assert await count_texts(stub.Encode(encode(100))) == 100


async def test_huge_sparse_answers_come_in_bounded_pages(
    registry_file: Path, tmp_path: Path
) -> None:
    """A text whose answer no message can hold is refused by its index, not by gRPC."""
    chosen = settings(registry_file, tmp_path, page_bytes=40_000, page_memory_bytes=2**20)
    texts = [pb.TextInput(text="the old dog sleeps " * 10)] * 60
    request = pb.EncodeSparseRequest(sae=SAE, texts=texts, above=0.0)
    async with front_stub(chosen) as stub:
        pages = [page async for page in stub.EncodeSparse(request)]
    assert [text.text_index for page in pages for text in page.texts] == list(range(60))
    assert len(pages) > 10
    assert all(page.ByteSize() <= 41_000 for page in pages)
    narrow = chosen.model_copy(update={"max_message_bytes": 2**16})
    long = pb.TextInput(token_ids=pb.TokenIds(ids=[2 + n % 390 for n in range(240)]))
    request = pb.EncodeSparseRequest(sae=SAE, texts=[texts[0], long], above=0.0)
    async with front_stub(narrow) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            _ = [page async for page in stub.EncodeSparse(request)]
    error = from_rpc_error(caught.value)
    assert (error.status, error.reason) == ("RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE")
    assert error.metadata == {"field": "texts[1]"}


async def test_at_most_two_parts_of_an_answer_are_held() -> None:
    """Memory is bounded however slowly a caller reads, and an end ends what was begun."""
    begun: list[int] = []
    ended: list[int] = []

    async def compute(run: range) -> int:
        begun.append(run.start)
        try:
            if run.start > 2:
                await asyncio.Event().wait()
            return run.start
        finally:
            ended.append(run.start)

    parts = ahead((range(n, n + 1) for n in range(9)), compute)
    assert [await anext(parts) for _ in range(2)] == [(range(0, 1), 0), (range(1, 2), 1)]
    await asyncio.sleep(0)
    assert begun == [0, 1, 2]
    assert await anext(parts) == (range(2, 3), 2)
    await asyncio.sleep(0)
    assert begun == [0, 1, 2, 3]
    await parts.aclose()
    assert ended == begun


def test_what_is_loaded_first_is_a_setting(
    registry_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = load_registry(registry_file)
    for given, expected in [
        (None, ["tiny-jumprelu"]),
        ("", []),
        ("*", ["tiny-jumprelu", "tiny-relu", "tiny-topk"]),
        ("tiny-topk, tiny-relu", ["tiny-topk", "tiny-relu"]),
    ]:
        if given is not None:
            monkeypatch.setenv("SAEXPLAIN_ACTIVATION_PRELOAD", given)
        assert to_preload(ActivationSettings(registry=registry_file), registry) == expected
    with pytest.raises(NotFound):
        to_preload(settings(registry_file, tmp_path, preload="nothing"), registry)


async def test_the_documented_metrics_are_those_exported(
    registry_file: Path, tmp_path: Path
) -> None:
    """Guards against a dashboard on a name that is gone, and a metric nobody has heard of."""
    registry = CollectorRegistry()
    chosen = settings(registry_file, tmp_path, row_cache_bytes=2**20)
    async with front(chosen, load_registry(registry_file), registry):
        with RpcMetrics(registry).call("/any.Service/Method"):
            pass
        exported = {
            (
                metric.name + ("_total" if metric.type == "counter" else ""),
                metric.type,
                ", ".join(sorted({n for s in metric.samples for n in s.labels} - {"le"})),
            )
            for metric in registry.collect()
        }
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([\w, ]*) ?\| .+ \|$", METRICS.read_text(), re.M)
    assert {(name, kind, labels.strip()) for name, kind, labels in rows} == exported
