"""What stands behind a failed activity, read alike by all workflows."""

from __future__ import annotations

from temporalio.exceptions import ActivityError, ApplicationError


def reason_of(error: ActivityError) -> tuple[str, str]:
    """The reason and message. One that never answered in time is DEADLINE_EXCEEDED."""
    cause = error.cause
    if isinstance(cause, ApplicationError):
        return cause.type or "UNSPECIFIED", cause.message
    return "DEADLINE_EXCEEDED", f"{error.activity_type} gave no answer in time"


def budget_unit(error: ActivityError) -> str:
    """In what a spent budget is counted: `tokens` or a currency."""
    cause = error.cause
    if isinstance(cause, ApplicationError) and cause.details:
        details = cause.details[0]
        if isinstance(details, dict):
            return str(details.get("unit", "tokens"))
    return "tokens"
