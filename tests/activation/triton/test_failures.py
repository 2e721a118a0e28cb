"""Triton's errors as ours. Messages are those that Triton 2.51 was seen to send."""

from __future__ import annotations

import pytest
from tritonclient.utils import InferenceServerException

from services.activation.triton.failures import error_of, is_dead, is_of_model
from services.activation.triton.wire import decode_error, error_text
from services.common.errors import InvalidArgument, NotFound, ResourceExhausted

_OURS = error_text(NotFound("no such SAE", reason="SAE_NOT_FOUND"))

CASES = [
    (
        "INTERNAL",
        "Stub process 'm_0_0' is not healthy.",
        True,
        "UNAVAILABLE",
        "BACKEND_UNAVAILABLE",
    ),
    (
        "UNAVAILABLE",
        "failed to connect to all addresses",
        True,
        "UNAVAILABLE",
        "BACKEND_UNAVAILABLE",
    ),
    ("UNAVAILABLE", "Exceeds maximum queue size", False, "RESOURCE_EXHAUSTED", "QUEUE_FULL"),
    ("DEADLINE_EXCEEDED", "Deadline Exceeded", False, "UNAVAILABLE", "BACKEND_UNAVAILABLE"),
    ("NOT_FOUND", "Request for unknown model", False, "UNAVAILABLE", "BACKEND_UNAVAILABLE"),
    ("CANCELLED", "CANCELLED", False, "CANCELLED", "CANCELLED"),
    ("NOT_FOUND", f"[request id: 7] {_OURS}", False, "NOT_FOUND", "SAE_NOT_FOUND"),
]


@pytest.mark.parametrize(("status", "text", "dead", "expected", "reason"), CASES)
def test_every_kind_of_failure_has_its_error(
    status: str, text: str, dead: bool, expected: str, reason: str
) -> None:
    """Only what may have come back is sent again: a full queue must not get more."""
    failure = InferenceServerException(text, status=f"StatusCode.{status}")
    error = error_of(failure, "host:1", 2.5)
    assert (is_dead(failure), error.status, error.reason) == (dead, expected, reason)
    assert is_of_model(failure) == (_OURS in text)
    assert error.retry_after_seconds == (2.5 if reason == "QUEUE_FULL" else None)


def test_an_error_keeps_its_fields_on_the_way() -> None:
    """The caller sees which feature was wrong, not only that something was."""
    sent = InvalidArgument("too big", field="features[1]", reason="FEATURE_OUT_OF_RANGE")
    got = decode_error(f"prefix {error_text(sent)}")
    assert isinstance(got, InvalidArgument)
    assert (got.message, got.reason, got.violations) == (sent.message, sent.reason, sent.violations)


def test_a_time_to_wait_survives_triton() -> None:
    """The model knows its speed; without it a caller would come back too soon or too late."""
    full = ResourceExhausted("full", reason="QUEUE_FULL", retry_after_seconds=1.5)
    found = decode_error(f"[request id: 7] {error_text(full)}")
    assert isinstance(found, ResourceExhausted)
    assert found.retry_after_seconds == 1.5
