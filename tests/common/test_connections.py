"""Guards what lets pods come and go: calls spread over all addresses of a name, connections that
are renewed without losing a call, and a liveness that loading and draining do not touch."""

from __future__ import annotations

import asyncio

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from saexplain.activation.v1 import activation_pb2 as pb
from saexplain.activation.v1 import activation_pb2_grpc as rpc
from services.common.grpc_client import open_channel
from services.common.grpc_server import LIVENESS, HealthReporter
from services.common.settings import ServerSettings
from services.common.testing import serving


class _TellsPeer(rpc.ActivationServiceServicer):
    """Answers with the caller's address; one that asks for "wait" is answered when let go."""

    def __init__(self) -> None:
        self.waiting, self.go, self.calls = asyncio.Event(), asyncio.Event(), 0

    async def GetSae(self, request, context):
        self.calls += 1
        if request.name == "wait":
            self.waiting.set()
            await self.go.wait()
        return pb.GetSaeResponse(sae=pb.Sae(name=context.peer()))

    async def register(self, server: grpc.aio.Server, health: HealthReporter) -> None:
        rpc.add_ActivationServiceServicer_to_server(self, server)


async def test_calls_reach_every_address_of_a_name() -> None:
    """Guards against one pod that does all the work behind a headless service."""
    one, two = _TellsPeer(), _TellsPeer()
    async with (
        serving(one.register) as first,
        serving(two.register) as second,
        open_channel(f"ipv4:{first},{second}") as channel,
    ):
        stub = rpc.ActivationServiceStub(channel)
        async with asyncio.timeout(30):
            while not (one.calls and two.calls):
                await stub.GetSae(pb.GetSaeRequest())


async def test_a_connection_of_age_is_renewed_and_its_calls_end_in_peace() -> None:
    """Guards against pods that no old client ever finds, and against calls cut off on the way."""
    servicer = _TellsPeer()
    settings = ServerSettings(max_connection_age_seconds=0.2)
    async with (
        serving(servicer.register, settings=settings) as address,
        open_channel(address) as channel,
    ):
        stub = rpc.ActivationServiceStub(channel)
        long = asyncio.ensure_future(stub.GetSae(pb.GetSaeRequest(name="wait")))
        await servicer.waiting.wait()
        peers: set[str] = set()
        async with asyncio.timeout(30):
            while len(peers) < 3:
                peers.add((await stub.GetSae(pb.GetSaeRequest())).sae.name)
                await asyncio.sleep(0.02)
        servicer.go.set()
        assert (await long).sae.name


async def test_liveness_stands_while_the_service_is_not_ready() -> None:
    """Guards against a process that is killed for loading."""
    async with serving(_TellsPeer().register) as address, open_channel(address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        ready = await check(health_pb2.HealthCheckRequest())
        live = await check(health_pb2.HealthCheckRequest(service=LIVENESS))
    assert ready.status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert live.status == health_pb2.HealthCheckResponse.SERVING
