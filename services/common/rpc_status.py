"""Errors of ours to `google.rpc.Status` and back, with typed details."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from services.common.errors import (
    BY_STATUS,
    FieldViolation,
    InvalidArgument,
    SaexplainError,
    Unavailable,
)

DOMAIN = "saexplain"

# What a status means that no handler of ours wrote: gRPC's own refusals.
_FOREIGN_REASONS = {
    "RESOURCE_EXHAUSTED": "MESSAGE_TOO_LARGE",
    "UNIMPLEMENTED": "UNSUPPORTED",
}


def to_rpc_status(error: SaexplainError) -> Any:
    """The status with ErrorInfo, and BadRequest or RetryInfo where they apply."""
    details = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    ]
    if error.violations:
        details.append(
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(
                        field=v.field, description=v.description
                    )
                    for v in error.violations
                ]
            )
        )
    if error.retry_after_seconds is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(error.retry_after_seconds * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(code=code_pb2.Code.Value(error.status), message=error.message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return rpc_status.to_status(status)


def from_rpc_error(error: grpc.aio.AioRpcError) -> SaexplainError:
    """The error behind a failed call, as its server raised it.

    Statuses without our details come from gRPC itself (no connection, message too
    large) or from a defect; the latter are Unavailable, since the caller can only
    repeat, and say so.
    """
    status = error.code().name
    message = error.details() or status
    info, violations, retry_after = _details(error)
    error_type = BY_STATUS.get(status)
    if error_type is None:
        return Unavailable(f"the service answered {status}: {message}")
    reason = info.reason if info is not None else _FOREIGN_REASONS.get(status)
    metadata = dict(info.metadata) if info is not None else {}
    if issubclass(error_type, InvalidArgument):
        return InvalidArgument(message, reason=reason, violations=violations, metadata=metadata)
    return error_type(message, reason, metadata=metadata, retry_after_seconds=retry_after)


def _details(
    error: grpc.aio.AioRpcError,
) -> tuple[error_details_pb2.ErrorInfo | None, tuple[FieldViolation, ...], float | None]:
    info = None
    violations: tuple[FieldViolation, ...] = ()
    retry_after = None
    try:
        status = rpc_status.from_call(_AsCall(error))
    except ValueError:  # the server's refusal came, but the client had given up before: its
        status = None  # own status stands, and the details belong to another
    for packed in status.details if status is not None else ():
        if packed.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo()
            packed.Unpack(info)
        elif packed.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest()
            packed.Unpack(bad)
            violations = tuple(FieldViolation(v.field, v.description) for v in bad.field_violations)
        elif packed.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo()
            packed.Unpack(retry)
            retry_after = retry.retry_delay.ToNanoseconds() / 1e9
    return info, violations, retry_after


class _AsCall:
    """An AioRpcError in the shape that grpc_status reads."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self._error = error

    def code(self) -> grpc.StatusCode:
        return self._error.code()

    def details(self) -> str | None:
        details: str | None = self._error.details()
        return details

    def trailing_metadata(self) -> Any:
        return self._error.trailing_metadata()
