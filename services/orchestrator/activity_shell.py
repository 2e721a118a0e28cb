"""What surrounds every activity: its context, a timer heartbeat, and typed errors.

An error of ours becomes an `ApplicationError` whose type is the error's reason. A
repeat is worth while for UNAVAILABLE, RESOURCE_EXHAUSTED, ABORTED and DEADLINE_EXCEEDED,
after the delay the service asked for; everything else fails at once. A spent budget
does not come back and is not retried either.
"""

# ruff: noqa: A002 (the names are those of the base classes)

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import temporalio.worker
from temporalio import activity
from temporalio.exceptions import ApplicationError

from services.common.call_context import use_context
from services.common.errors import SaexplainError
from services.orchestrator.context_propagation import WorkflowContextInbound, context_of
from services.orchestrator.policies import HEARTBEAT_SECONDS

RETRYABLE = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED", "ABORTED", "DEADLINE_EXCEEDED"})
FINAL_REASONS = frozenset({"BUDGET_EXHAUSTED", "MESSAGE_TOO_LARGE"})
ATTEMPTS_BY_REASON = {"LLM_REPLY_UNUSABLE": 3}
"""Attempts after which a reason is final, where that is fewer than the policy allows:
a model that answers uselessly three times is not going to change its mind."""


def as_application_error(error: SaexplainError, attempt: int) -> ApplicationError:
    """The error as Temporal has to see it.

    Args:
        attempt: which attempt failed, from 1.
    """
    retryable = error.status in RETRYABLE and error.reason not in FINAL_REASONS
    retryable = retryable and attempt < ATTEMPTS_BY_REASON.get(error.reason, attempt + 1)
    delay = error.retry_after_seconds
    return ApplicationError(
        error.message,
        {"status": error.status, **error.metadata},
        type=error.reason,
        non_retryable=not retryable,
        next_retry_delay=timedelta(seconds=delay) if retryable and delay is not None else None,
    )


class ShellInterceptor(temporalio.worker.Interceptor):
    """Installs the shell around activities and the context in workflows."""

    def intercept_activity(
        self, next: temporalio.worker.ActivityInboundInterceptor
    ) -> temporalio.worker.ActivityInboundInterceptor:
        """See the base class."""
        return _Shell(next)

    def workflow_interceptor_class(
        self, input: temporalio.worker.WorkflowInterceptorClassInput
    ) -> type[temporalio.worker.WorkflowInboundInterceptor] | None:
        """See the base class."""
        return WorkflowContextInbound


class _Shell(temporalio.worker.ActivityInboundInterceptor):
    async def execute_activity(self, input: temporalio.worker.ExecuteActivityInput) -> Any:
        with use_context(context_of(input.headers)):
            async with _heartbeats():
                try:
                    return await super().execute_activity(input)
                except SaexplainError as error:
                    raise as_application_error(error, activity.info().attempt) from error


@contextlib.asynccontextmanager
async def _heartbeats() -> AsyncIterator[None]:
    """Heartbeats while the body runs; a local activity needs none."""
    if activity.info().is_local:
        yield
        return
    beating = asyncio.create_task(_beat())
    try:
        yield
    finally:
        beating.cancel()


async def _beat() -> None:
    while True:
        activity.heartbeat()
        await asyncio.sleep(HEARTBEAT_SECONDS)


def remaining_seconds() -> float:
    """Time left for a call inside the running activity: the deadline travels with it."""
    info = activity.info()
    limit = info.start_to_close_timeout
    return max(limit.total_seconds() - 1.0, 1.0) if limit is not None else 60.0
