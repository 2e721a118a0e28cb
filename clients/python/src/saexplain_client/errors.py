"""The one error of this client, read from a gRPC status and its details."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

DOMAIN = "saexplain"
"""Domain of the `ErrorInfo` whose reasons are names of `ErrorReason`."""


@dataclass(frozen=True)
class FieldViolation:
    """One wrong field: its path in the request, such as `texts[3]`, and what is wrong."""

    field: str
    description: str


class SaexplainClientError(Exception):
    """A call that did not go well.

    Attributes:
        status: name of the gRPC status, such as `NOT_FOUND`.
        reason: name of `saexplain.common.v1.ErrorReason` without its prefix, such as
            `SAE_NOT_FOUND`. Empty where the answer did not come from saexplain, such as
            when nobody listens at the address.
        message: for people.
        violations: the wrong fields of an INVALID_ARGUMENT.
        retry_after_seconds: earliest sensible repeat; None where the server named none.
    """

    def __init__(
        self,
        status: str,
        reason: str,
        message: str,
        violations: tuple[FieldViolation, ...] = (),
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(status, reason, message)
        self.status = status
        self.reason = reason
        self.message = message
        self.violations = violations
        self.retry_after_seconds = retry_after_seconds

    def __str__(self) -> str:
        head = f"{self.status} {self.reason}".rstrip()
        fields = "; ".join(f"{v.field}: {v.description}" for v in self.violations)
        return f"{head}: {self.message}" + (f" [{fields}]" if fields else "")

    @classmethod
    def from_rpc_error(cls, error: grpc.aio.AioRpcError) -> SaexplainClientError:
        """Reads status, `ErrorInfo`, `BadRequest` and `RetryInfo` out of a gRPC error."""
        reason = ""
        violations: list[FieldViolation] = []
        retry_after: float | None = None
        for detail in _details(error):
            if isinstance(detail, error_details_pb2.ErrorInfo) and detail.domain == DOMAIN:
                reason = detail.reason
            elif isinstance(detail, error_details_pb2.BadRequest):
                violations += [
                    FieldViolation(v.field, v.description) for v in detail.field_violations
                ]
            elif isinstance(detail, error_details_pb2.RetryInfo):
                delay = detail.retry_delay
                retry_after = delay.seconds + delay.nanos / 1e9
        message = error.details() or ""
        return cls(error.code().name, reason, message, tuple(violations), retry_after)


_DETAIL_TYPES = (
    error_details_pb2.ErrorInfo,
    error_details_pb2.BadRequest,
    error_details_pb2.RetryInfo,
)


def _details(error: grpc.aio.AioRpcError) -> list[Any]:
    """The details that are understood here; others are left out."""
    status = rpc_status.from_call(error)
    found: list[Any] = []
    for packed in status.details if status is not None else ():
        for detail_type in _DETAIL_TYPES:
            if packed.Is(detail_type.DESCRIPTOR):
                detail = detail_type()
                packed.Unpack(detail)
                found.append(detail)
    return found
