"""Guards the only place where exceptions become statuses: a typed error must arrive as
it was raised, undecodable bytes must never be INTERNAL, and a defect must be."""

from __future__ import annotations

import asyncio
from urllib.request import urlopen

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry, Counter

from saexplain.activation.v1 import activation_pb2 as pb
from saexplain.activation.v1 import activation_pb2_grpc as rpc
from services.common import errors
from services.common.call_context import CallContext, current, use_context
from services.common.grpc_client import from_rpc_error, open_channel, rpc_errors
from services.common.grpc_server import HealthReporter, start_server
from services.common.metrics import serve_metrics
from services.common.rpc_status import to_rpc_status
from services.common.settings import ServerSettings
from services.common.testing import serving

_SERVICE = "saexplain.activation.v1.ActivationService"


class _Raises(rpc.ActivationServiceServicer):
    """Raises what it is told to; answers with the project of the call."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    async def GetSae(self, request, context):
        if self.error is not None:
            raise self.error
        return pb.GetSaeResponse(sae=pb.Sae(name=request.name, description=current().project))

    async def Encode(self, request, context):
        yield pb.EncodeResponse(backend="first page")
        if self.error is not None:
            raise self.error


class _Waits(rpc.ActivationServiceServicer):
    """Answers when it is let go."""

    def __init__(self) -> None:
        self.began, self.go = asyncio.Event(), asyncio.Event()

    async def GetSae(self, request, context):
        self.began.set()
        await self.go.wait()
        return pb.GetSaeResponse()


class _Streams(rpc.ActivationServiceServicer):
    """Streams until its caller goes away, and says when it knows."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def Encode(self, request, context):
        try:
            while True:
                yield pb.EncodeResponse(backend="x" * 100_000)
        finally:
            self.ended.set()


def _register(servicer: rpc.ActivationServiceServicer):
    async def register(server: grpc.aio.Server, health: HealthReporter) -> None:
        rpc.add_ActivationServiceServicer_to_server(servicer, server)
        await health.set_serving()

    return register


def _all_errors() -> list[errors.SaexplainError]:
    plain = [
        cls("said so", "FIELD_INVALID", metadata={"limit": "3"})
        for cls in errors.BY_STATUS.values()
        if cls is not errors.InvalidArgument
    ]
    return [*plain, errors.InvalidArgument("too long", "texts[2]", "TEXT_TOO_LONG")]


@pytest.mark.parametrize("error", _all_errors(), ids=lambda e: e.status)
async def test_every_error_of_the_tree_survives_the_wire(error: errors.SaexplainError) -> None:
    async with serving(_register(_Raises(error))) as address, open_channel(address) as channel:
        with pytest.raises(type(error)) as caught:
            async with rpc_errors():
                await rpc.ActivationServiceStub(channel).GetSae(pb.GetSaeRequest())
    assert caught.value.reason == error.reason
    assert caught.value.message == error.message
    assert caught.value.metadata == error.metadata
    assert caught.value.violations == error.violations


async def test_a_retry_delay_survives_the_wire() -> None:
    error = errors.ResourceExhausted("queue", retry_after_seconds=1.5)
    async with serving(_register(_Raises(error))) as address, open_channel(address) as channel:
        with pytest.raises(errors.ResourceExhausted) as caught:
            async with rpc_errors():
                await rpc.ActivationServiceStub(channel).GetSae(pb.GetSaeRequest())
    assert caught.value.retry_after_seconds == 1.5


async def test_an_error_after_the_first_page_of_a_stream_is_typed_too() -> None:
    error = errors.DeadlineExceeded("late")
    async with serving(_register(_Raises(error))) as address, open_channel(address) as channel:
        pages = []
        with pytest.raises(errors.DeadlineExceeded):
            async with rpc_errors():
                async for page in rpc.ActivationServiceStub(channel).Encode(pb.EncodeRequest()):
                    pages.append(page.backend)
    assert pages == ["first page"]


@pytest.mark.parametrize(
    "data",
    [b"\x0a\x02\xff\xfe", b"\x0a\x7f short", b"\x0a\x03\xed\xa0\x80"],
    ids=["invalid UTF-8", "truncated", "lone surrogate"],
)
async def test_bytes_that_do_not_decode_are_the_callers_fault(data: bytes) -> None:
    async with serving(_register(_Raises())) as address, open_channel(address) as channel:
        call = channel.unary_unary(f"/{_SERVICE}/GetSae")
        with pytest.raises(errors.InvalidArgument) as caught:
            async with rpc_errors():
                await call(data)
    assert caught.value.violations[0].field == "request"


async def test_a_defect_is_internal_and_tells_nothing() -> None:
    defect = RuntimeError("secret")
    async with serving(_register(_Raises(defect))) as address, open_channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rpc.ActivationServiceStub(channel).GetSae(pb.GetSaeRequest())
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in (caught.value.details() or "")


async def test_the_project_of_the_caller_reaches_the_handler() -> None:
    async with serving(_register(_Raises())) as address, open_channel(address) as channel:
        with use_context(CallContext(project="projects/other")):
            answer = await rpc.ActivationServiceStub(channel).GetSae(pb.GetSaeRequest())
    assert answer.sae.description == "projects/other"


async def test_a_message_beyond_the_limit_is_refused_as_such() -> None:
    settings = ServerSettings(max_message_bytes=2**16)
    async with (
        serving(_register(_Raises()), settings=settings) as address,
        open_channel(address) as channel,
    ):
        with pytest.raises(errors.ResourceExhausted) as caught:
            async with rpc_errors():
                await rpc.ActivationServiceStub(channel).GetSae(pb.GetSaeRequest(name="x" * 2**17))
    assert caught.value.reason == "MESSAGE_TOO_LARGE"


async def test_a_taken_address_is_refused_by_name() -> None:
    async with serving(_register(_Raises())) as address:
        with pytest.raises(errors.Unavailable, match=address):
            async with serving(_register(_Raises()), settings=ServerSettings(listen=address)):
                pass


def test_a_refusal_that_came_too_late_leaves_the_clients_own_status() -> None:
    """The deadline passes while the server's refusal, with its details, is on the way."""
    late = to_rpc_status(errors.Unimplemented("elsewhere"))
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.DEADLINE_EXCEEDED, grpc.aio.Metadata(), late.trailing_metadata, "too late"
    )
    found = from_rpc_error(error)
    assert isinstance(found, errors.DeadlineExceeded)
    assert found.message == "too late"


async def test_health_answers_however_many_calls_are_in_flight() -> None:
    """Guards against a busy server that is restarted for being busy."""
    busy = _Waits()
    settings = ServerSettings(max_concurrent_rpcs=1)
    async with (
        serving(_register(busy), [_SERVICE], settings) as address,
        open_channel(address) as channel,
    ):
        stub = rpc.ActivationServiceStub(channel)
        first = asyncio.ensure_future(stub.GetSae(pb.GetSaeRequest()))
        await busy.began.wait()
        with pytest.raises(errors.ResourceExhausted) as caught:
            async with rpc_errors():
                await stub.GetSae(pb.GetSaeRequest())
        assert caught.value.reason == "QUEUE_FULL"
        assert caught.value.retry_after_seconds
        check = health_pb2_grpc.HealthStub(channel).Check
        status = (await check(health_pb2.HealthCheckRequest())).status
        assert status == health_pb2.HealthCheckResponse.SERVING
        busy.go.set()
        await first
        await stub.GetSae(pb.GetSaeRequest())


async def test_a_cancelled_stream_ends_its_handler_at_once() -> None:
    """Guards against room that is held until the garbage collector comes by."""
    servicer = _Streams()
    async with serving(_register(servicer)) as address, open_channel(address) as channel:
        call = rpc.ActivationServiceStub(channel).Encode(pb.EncodeRequest())
        async for _page in call:
            call.cancel()
            break
        await asyncio.wait_for(servicer.ended.wait(), 30)


async def test_calls_are_counted_by_method_and_status() -> None:
    registry = CollectorRegistry()
    server, address, _ = await start_server(
        ServerSettings(), _register(_Raises(errors.NotFound("no"))), [_SERVICE], registry
    )
    async with open_channel(address) as channel:
        for _ in range(2):
            with pytest.raises(grpc.aio.AioRpcError):
                await rpc.ActivationServiceStub(channel).GetSae(pb.GetSaeRequest())
    await server.stop(None)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"saexplain_rpc_{name}", {"method": "GetSae", **labels})

    assert value("requests_total", code="NOT_FOUND") == 2
    assert value("duration_seconds_count") == 2
    assert value("in_flight") == 0


async def test_metrics_are_served_over_http() -> None:
    registry = CollectorRegistry()
    Counter("saexplain_test", "one", registry=registry).inc()
    with serve_metrics("127.0.0.1:0", registry) as endpoint:
        assert endpoint is not None
        url = f"http://{endpoint.address}/metrics"
        text = await asyncio.to_thread(lambda: urlopen(url).read().decode())
        assert "saexplain_test_total 1.0" in text
        with (
            pytest.raises(errors.Unavailable, match="cannot serve metrics"),
            serve_metrics(endpoint.address, registry),
        ):
            pass
    with serve_metrics("", registry) as nothing:
        assert nothing is None
