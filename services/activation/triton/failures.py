"""Triton's failures as errors of ours, and which of them are worth a second try."""

from __future__ import annotations

from tritonclient.utils import InferenceServerException

from services.activation.triton.wire import decode_error
from services.common.errors import Cancelled, ResourceExhausted, SaexplainError, Unavailable

_DEAD_STUB = "Stub process"
_FULL_QUEUE = "Exceeds maximum queue size"


def is_of_model(error: InferenceServerException) -> bool:
    """Whether the model itself answered with this error: its process is alive."""
    return decode_error(str(error.message())) is not None


def is_dead(error: InferenceServerException) -> bool:
    """Whether the model's process or the server is gone, so that a later try may succeed."""
    text = str(error.message())
    if decode_error(text) is not None or _FULL_QUEUE in text:
        return False
    return _status(error) == "UNAVAILABLE" or _DEAD_STUB in text


def error_of(
    error: InferenceServerException, address: str, retry_after_seconds: float
) -> SaexplainError:
    """What a failed request means to the caller of the backend."""
    text, status = str(error.message()), _status(error)
    ours = decode_error(text)
    if ours is not None:
        return ours
    if _FULL_QUEUE in text:
        return ResourceExhausted(
            f"Triton's queue is full: {text}",
            reason="QUEUE_FULL",
            retry_after_seconds=retry_after_seconds,
        )
    if status == "CANCELLED":
        return Cancelled("the request to Triton was cancelled")
    return Unavailable(
        f"Triton at {address} did not compute: {status} {text}", reason="BACKEND_UNAVAILABLE"
    )


def _status(error: InferenceServerException) -> str:
    return str(error.status()).removeprefix("StatusCode.")
