"""Channels to our own services. No retry policy: Temporal owns all retries."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from services.common import call_context
from services.common.rpc_status import from_rpc_error

__all__ = ["from_rpc_error", "open_channel", "rpc_errors"]


def _with_context(details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
    own = call_context.current().to_metadata()
    merged = grpc.aio.Metadata(*(details.metadata or ()), *own)
    return grpc.aio.ClientCallDetails(
        details.method, details.timeout, merged, details.credentials, details.wait_for_ready
    )


class _UnaryContext(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        return await continuation(_with_context(details), request)


class _StreamContext(grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[misc]
    async def intercept_unary_stream(
        self, continuation: Callable[..., Any], details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        return await continuation(_with_context(details), request)


def open_channel(address: str, *, max_message_bytes: int = 16 * 2**20) -> grpc.aio.Channel:
    """A channel that puts the current `CallContext` into every call's metadata."""
    return grpc.aio.insecure_channel(
        address,
        interceptors=[_UnaryContext(), _StreamContext()],
        options=[
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", max_message_bytes),
            ("grpc.enable_retries", 0),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.max_reconnect_backoff_ms", 2_000),
            # Calls spread over all addresses of a name; by default one would take them all.
            ("grpc.lb_policy_name", "round_robin"),
        ],
    )


@contextlib.asynccontextmanager
async def rpc_errors() -> AsyncIterator[None]:
    """Turns a failed call in the body into the `SaexplainError` its server raised."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error
