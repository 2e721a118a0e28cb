"""Errors as a person at a terminal, or a machine, reads them."""

from __future__ import annotations

from typing import Any

from saexplain_client import SaexplainClientError
from services.common.errors import SaexplainError

_HINTS = {
    "SAE_NOT_FOUND": "check the name against the registry (SAEXPLAIN_REGISTRY)",
    "RESOURCE_NOT_FOUND": "`saexplain list` and `saexplain index list` show what there is",
    "FEATURE_OUT_OF_RANGE": "feature indices run from 0 to one below the size of the SAE",
    "INDEX_NOT_BUILT": "build one with `saexplain index create`",
    "EXPLAINER_UNKNOWN": "explainers: lexical, sage, paper, one_shot, best_of_n, random_probe",
    "METHOD_UNKNOWN": "leave --methods out for those that run by default",
    "LLM_NOT_CONFIGURED": "set OPENAI_API_KEY or OPENAI_BASE_URL before `saexplain up`, "
    "or use --explainer lexical",
    "BACKEND_UNAVAILABLE": "`saexplain up` starts the services; their logs are in the state folder",
    "NOT_READY": "models are still loading; try again in a moment",
    "QUEUE_FULL": "try again in a moment",
    "REQUEST_ID_REUSED": "use another --request-id",
}
_UNREACHABLE = "is the stack running? `saexplain up` starts it, --address names another one"

AnyError = SaexplainError | SaexplainClientError


def hint_for(error: AnyError) -> str:
    """What to do about it; empty where nothing better than the message is known."""
    if error.status == "UNAVAILABLE" and not error.reason:
        return _UNREACHABLE
    return _HINTS.get(error.reason, "")


def as_lines(error: AnyError) -> list[str]:
    """Reason and message, the wrong fields, what to do."""
    head = error.reason or error.status
    if len(error.violations) == 1 and error.violations[0].description == error.message:
        lines = [f"{head} ({error.violations[0].field}): {error.message}"]
    else:
        lines = [f"{head}: {error.message}"]
        lines += [f"  {v.field}: {v.description}" for v in error.violations]
    if error.retry_after_seconds is not None:
        lines.append(f"  try again in {error.retry_after_seconds:.0f} s")
    hint = hint_for(error)
    return [*lines, f"  → {hint}"] if hint else lines


def as_json(error: AnyError) -> dict[str, Any]:
    """The error as the one JSON document of a command that failed."""
    return {
        "error": {
            "status": error.status,
            "reason": error.reason,
            "message": error.message,
            "violations": [
                {"field": v.field, "description": v.description} for v in error.violations
            ],
            "retry_after_seconds": error.retry_after_seconds,
            "hint": hint_for(error),
        }
    }
