"""The gRPC shell that every service shares.

Handlers raise `SaexplainError`; this is the only place where exceptions become
statuses. Bytes that do not decode are the caller's fault and answered as such, before
a handler runs. A handler's other exceptions are defects: logged, answered INTERNAL.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import grpc
import structlog
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry

from services.common.call_context import CallContext, use_context
from services.common.errors import InvalidArgument, ResourceExhausted, SaexplainError, Unavailable
from services.common.metrics import CallRecord, RpcMetrics, serve_metrics
from services.common.rpc_status import to_rpc_status
from services.common.settings import ServerSettings

_log = structlog.get_logger(__name__)

_INFRASTRUCTURE = ("/grpc.health.", "/grpc.reflection.")
_ROOM_SECONDS = 1.0
"""When to come back where too many calls are in flight."""


LIVENESS = "saexplain.liveness"
"""What a liveness probe asks the health service for: SERVING as long as the process answers at
all, also while it loads or drains, when restarting it would only lose work."""


class HealthReporter:
    """What the health service says: NOT_SERVING until `set_serving` is called."""

    def __init__(self, servicer: HealthServicer, services: Sequence[str]) -> None:
        self._servicer = servicer
        self._names = ("", *services)

    async def set_serving(self, serving: bool = True) -> None:
        """Reports SERVING or NOT_SERVING for the server and each of its services."""
        status = health_pb2.HealthCheckResponse.ServingStatus
        value = status.SERVING if serving else status.NOT_SERVING
        for name in self._names:
            await self._servicer.set(name, value)


Register = Callable[[grpc.aio.Server, HealthReporter], Awaitable[None]]
"""Adds servicers to a server. It may return before the service is ready and call
`set_serving` later; or call it at once."""


class _Undecodable:
    """Stands for a request whose bytes are not the message they should be."""


def _forgiving(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def decode(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError:
            return _Undecodable()

    return decode


class _Calls:
    """Admits so many calls at once, turns what they raise into statuses, and counts them."""

    def __init__(self, limit: int, metrics: RpcMetrics) -> None:
        self._limit = limit
        self._metrics = metrics
        self._running = 0

    @contextlib.asynccontextmanager
    async def one(self, context: grpc.aio.ServicerContext, method: str) -> AsyncIterator[None]:
        """Around one call."""
        self._running += 1
        try:
            with self._metrics.call(method) as record:
                async with _statuses(context, method, record):
                    self._check_room()
                    yield
        finally:
            self._running -= 1

    def _check_room(self) -> None:
        if self._running > self._limit:
            raise ResourceExhausted(
                f"{self._limit} calls are being answered, more are not taken",
                reason="QUEUE_FULL",
                retry_after_seconds=_ROOM_SECONDS,
            )


@contextlib.asynccontextmanager
async def _statuses(
    context: grpc.aio.ServicerContext, method: str, record: CallRecord
) -> AsyncIterator[None]:
    try:
        yield
    except SaexplainError as error:
        record.code = error.status
        _log.info("rpc_refused", method=method, status=error.status, reason=error.reason)
        await _abort(context, error)
    except grpc.aio.AbortError:
        record.code = context.code().name
        raise
    except (asyncio.CancelledError, GeneratorExit):
        record.code = "DEADLINE_EXCEEDED" if _is_late(context) else "CANCELLED"
        raise
    except Exception:  # noqa: BLE001 (the last resort: a defect must not end the server)
        record.code = "INTERNAL"
        _log.exception("rpc_failed", method=method)
        await context.abort(grpc.StatusCode.INTERNAL, "internal error; see the server's log")


def _is_late(context: grpc.aio.ServicerContext) -> bool:
    left = context.time_remaining()
    return left is not None and left <= 0


class _ErrorInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Context in, typed statuses out, for every method of ours."""

    def __init__(self, calls: _Calls) -> None:
        self._calls = calls

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = await continuation(details)
        if handler is None or details.method.startswith(_INFRASTRUCTURE):
            return handler
        call = CallContext.from_metadata(details.invocation_metadata or ())
        decode = _forgiving(handler.request_deserializer)
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(
                _unary(handler.unary_unary, call, self._calls, details.method),
                decode,
                handler.response_serializer,
            )
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(
                _stream(handler.unary_stream, call, self._calls, details.method),
                decode,
                handler.response_serializer,
            )
        raise TypeError(f"{details.method} streams its request, which no service here does")


def _unary(behavior: Any, call: CallContext, calls: _Calls, method: str) -> Any:
    async def handle(request: Any, context: grpc.aio.ServicerContext) -> Any:
        async with calls.one(context, method):
            _refuse_undecodable(request)
            with use_context(call):
                return await behavior(request, context)

    return handle


def _stream(behavior: Any, call: CallContext, calls: _Calls, method: str) -> Any:
    # A coroutine that writes, not a generator: gRPC leaves a cancelled call's generator to the
    # garbage collector, which ends it late and in another context.
    async def handle(request: Any, context: grpc.aio.ServicerContext) -> None:
        async with calls.one(context, method):
            _refuse_undecodable(request)
            with use_context(call):
                async with contextlib.aclosing(behavior(request, context)) as responses:
                    async for response in responses:
                        await context.write(response)

    return handle


def _refuse_undecodable(request: Any) -> None:
    if isinstance(request, _Undecodable):
        raise InvalidArgument(
            "the bytes are not this message (broken, or a string that is not UTF-8)", "request"
        )


async def _abort(context: grpc.aio.ServicerContext, error: SaexplainError) -> None:
    status = to_rpc_status(error)
    await context.abort(status.code, status.details, status.trailing_metadata)


def build_server(settings: ServerSettings, metrics: CollectorRegistry) -> grpc.aio.Server:
    """A server with our interceptor and limits; nothing is registered on it yet."""
    # Not gRPC's own limit of concurrent calls: it would refuse health checks too.
    calls = _Calls(settings.max_concurrent_rpcs, RpcMetrics(metrics))
    return grpc.aio.server(
        interceptors=[_ErrorInterceptor(calls)],
        options=[
            ("grpc.max_receive_message_length", settings.max_message_bytes),
            ("grpc.max_send_message_length", settings.max_message_bytes),
            # A second server on the same port is a mistake, not a second listener.
            ("grpc.so_reuseport", 0),
            # Our clients ping every 30 s. By default a server takes more than one ping in
            # five minutes without data for an attack and cuts long calls off
            # ("too_many_pings").
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 15_000),
            *_connection_age(settings.max_connection_age_seconds),
        ],
    )


def _connection_age(seconds: float) -> list[tuple[str, int]]:
    # gRPC's grace for calls in flight has no end by default, which is what we want: drain and
    # deadlines bound them.
    return [("grpc.max_connection_age_ms", round(seconds * 1000))] if seconds else []


async def start_server(
    settings: ServerSettings,
    register: Register,
    services: Sequence[str],
    metrics: CollectorRegistry | None = None,
) -> tuple[grpc.aio.Server, str, HealthReporter]:
    """Starts a server and returns it with its address and health.

    Args:
        services: full names of the services that `register` adds.
        metrics: where calls are counted; one of its own by default.

    Raises:
        Unavailable: the address cannot be bound.
    """
    server = build_server(settings, metrics or CollectorRegistry())
    servicer = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    health = HealthReporter(servicer, services)
    await health.set_serving(False)
    await servicer.set(LIVENESS, health_pb2.HealthCheckResponse.SERVING)
    reflection.enable_server_reflection(
        [*services, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name], server
    )
    try:
        port = server.add_insecure_port(settings.listen)
    except RuntimeError as error:
        raise Unavailable(f"cannot listen on {settings.listen}") from error
    await register(server, health)
    await server.start()
    address = f"{settings.listen.rsplit(':', 1)[0]}:{port}"
    _log.info("listening", address=address)
    return server, address, health


async def run_server(
    settings: ServerSettings,
    register: Register,
    services: Sequence[str],
    metrics: CollectorRegistry | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT, then drains: health says NOT_SERVING, no new call
    is taken, calls in flight may go on for `drain_seconds`.

    Args:
        metrics: shown at `metrics_listen`, with the calls added; one of its own by default.
    """
    metrics = metrics or CollectorRegistry()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with serve_metrics(settings.metrics_listen, metrics):
        server, _, health = await start_server(settings, register, services, metrics)
        await stop.wait()
        _log.info("draining", seconds=settings.drain_seconds)
        await health.set_serving(False)
        await server.stop(settings.drain_seconds)
    _log.info("stopped")
