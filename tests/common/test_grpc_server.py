"""Guards the only place where exceptions become statuses: a typed error must arrive as
it was raised, undecodable bytes must never be INTERNAL, and a defect must be."""

from __future__ import annotations

import grpc
import pytest

from saexplain.activation.v1 import activation_pb2 as pb
from saexplain.activation.v1 import activation_pb2_grpc as rpc
from services.common import errors
from services.common.call_context import CallContext, current, use_context
from services.common.grpc_client import open_channel, rpc_errors
from services.common.grpc_server import HealthReporter
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


def _register(servicer: _Raises):
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
