"""Waits until a process is ready, and notices if it ends instead."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.cli.stack.spec import ExitsWithZero, FileAppears, GrpcHealth, Readiness

_POLL_SECONDS = 0.1
_CHECK_TIMEOUT_SECONDS = 5.0


async def health_status(address: str, service: str = "") -> str:
    """`SERVING`, `NOT_SERVING`, ... as `grpc.health.v1` says, or `UNREACHABLE`."""
    async with grpc.aio.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            reply = await stub.Check(
                health_pb2.HealthCheckRequest(service=service), timeout=_CHECK_TIMEOUT_SECONDS
            )
        except grpc.aio.AioRpcError:
            return "UNREACHABLE"
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))


async def until_ready(process: Process, ready: Readiness) -> bool:
    """True when ready; False when the process ended without having been."""
    ended = asyncio.ensure_future(process.wait())
    if isinstance(ready, ExitsWithZero):
        return await ended == 0
    check = asyncio.ensure_future(_poll(ready))
    try:
        await asyncio.wait({ended, check}, return_when=asyncio.FIRST_COMPLETED)
        return check.done() and not ended.done()
    finally:
        for task in (ended, check):
            task.cancel()
        await asyncio.gather(ended, check, return_exceptions=True)


async def _poll(ready: GrpcHealth | FileAppears) -> None:
    # The other process has no way to tell us.
    while not await _is_ready(ready):  # noqa: ASYNC110
        await asyncio.sleep(_POLL_SECONDS)


async def _is_ready(ready: GrpcHealth | FileAppears) -> bool:
    if isinstance(ready, FileAppears):
        return ready.path.exists()
    return await health_status(ready.address, ready.service) == "SERVING"
