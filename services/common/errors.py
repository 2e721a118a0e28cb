"""One tree of errors for all services; `grpc_server` turns them into statuses and
`grpc_client` turns statuses back into them.

    SaexplainError
    ├── InvalidArgument      the request is wrong; names the field
    ├── NotFound
    ├── AlreadyExists
    ├── FailedPrecondition   right request, wrong state of the world
    ├── Unimplemented        known and not supported
    ├── ResourceExhausted    a limit, queue or budget; may say when to retry
    ├── Unauthenticated
    ├── PermissionDenied
    ├── Aborted              gave up half-way; a repeat may work
    ├── Cancelled
    ├── DeadlineExceeded
    └── Unavailable          something behind us is down; may say when to retry

`reason` is a name of `saexplain.common.v1.ErrorReason` without its prefix, checked
when the error is made, so that no undocumented reason leaves a service.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from saexplain.common.v1.error_pb2 import ErrorReason

_REASONS = frozenset(name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys())  # noqa: SIM118 (no dict)


@dataclass(frozen=True)
class FieldViolation:
    """One wrong field: its path in the request, such as `texts[3]`, and what is wrong."""

    field: str
    description: str


class SaexplainError(Exception):
    """Base of all errors that a service answers with.

    Args:
        message: what is wrong and, where it helps, what to do; for people.
        reason: name of an `ErrorReason` without its prefix.
        metadata: facts for machines, such as the limit that was passed.
        retry_after_seconds: earliest sensible repeat, >= 0.
    """

    status: ClassVar[str] = "UNKNOWN"
    default_reason: ClassVar[str] = "UNSPECIFIED"

    def __init__(
        self,
        message: str,
        reason: str | None = None,
        *,
        metadata: Mapping[str, str] | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        self.reason = self.default_reason if reason is None else reason
        if self.reason not in _REASONS:
            raise ValueError(f"{self.reason!r} is not a name of ErrorReason")
        super().__init__(message)
        self.message = message
        self.metadata = dict(metadata or {})
        self.retry_after_seconds = retry_after_seconds
        self.violations: tuple[FieldViolation, ...] = ()

    def __str__(self) -> str:
        fields = "; ".join(f"{v.field}: {v.description}" for v in self.violations)
        # A single violation usually repeats the message.
        suffix = f" [{fields}]" if fields and self.message not in fields else ""
        return f"{self.status} {self.reason}: {self.message}{suffix}"


class InvalidArgument(SaexplainError):
    """The request is wrong whatever the state of the world.

    Args:
        message: what is wrong.
        field: path of the wrong field; makes one violation with `message`.
        reason: FIELD_INVALID unless a narrower one fits.
        violations: several wrong fields at once; overrides `field`.
    """

    status = "INVALID_ARGUMENT"
    default_reason = "FIELD_INVALID"

    def __init__(
        self,
        message: str,
        field: str = "",
        reason: str | None = None,
        *,
        violations: Sequence[FieldViolation] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, reason, metadata=metadata)
        self.violations = tuple(violations) or ((FieldViolation(field, message),) if field else ())


class NotFound(SaexplainError):
    """The named thing does not exist."""

    status = "NOT_FOUND"
    default_reason = "RESOURCE_NOT_FOUND"


class AlreadyExists(SaexplainError):
    """The named thing exists and is another one."""

    status = "ALREADY_EXISTS"
    default_reason = "REQUEST_ID_REUSED"


class FailedPrecondition(SaexplainError):
    """A right request in the wrong state of the world; a repeat changes nothing."""

    status = "FAILED_PRECONDITION"
    default_reason = "STATE_CONFLICT"


class Unimplemented(SaexplainError):
    """Known and not supported."""

    status = "UNIMPLEMENTED"
    default_reason = "UNSUPPORTED"


class ResourceExhausted(SaexplainError):
    """A limit, queue or budget is spent."""

    status = "RESOURCE_EXHAUSTED"
    default_reason = "QUEUE_FULL"


class Unauthenticated(SaexplainError):
    """Nobody knows who is asking."""

    status = "UNAUTHENTICATED"
    default_reason = "UNSPECIFIED"


class PermissionDenied(SaexplainError):
    """Whoever asks may not."""

    status = "PERMISSION_DENIED"
    default_reason = "UNSPECIFIED"


class Aborted(SaexplainError):
    """The step gave up half-way; a repeat may go through."""

    status = "ABORTED"
    default_reason = "LLM_REPLY_UNUSABLE"


class Cancelled(SaexplainError):
    """The caller or a user cancelled."""

    status = "CANCELLED"
    default_reason = "CANCELLED"


class DeadlineExceeded(SaexplainError):
    """The deadline passed."""

    status = "DEADLINE_EXCEEDED"
    default_reason = "DEADLINE_EXCEEDED"


class Unavailable(SaexplainError):
    """Something this service stands on is down or not ready yet."""

    status = "UNAVAILABLE"
    default_reason = "BACKEND_UNAVAILABLE"


def _leaf_types(base: type[SaexplainError]) -> dict[str, type[SaexplainError]]:
    return {cls.status: cls for cls in base.__subclasses__()}


BY_STATUS: Mapping[str, type[SaexplainError]] = _leaf_types(SaexplainError)
"""Name of a gRPC status to the error that stands for it."""
