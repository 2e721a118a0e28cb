"""What surrounds every activity: its context, a timer heartbeat, and typed errors.

An error of ours becomes an `ApplicationError` whose type is the error's reason. A
repeat is worth while for UNAVAILABLE, RESOURCE_EXHAUSTED, ABORTED and DEADLINE_EXCEEDED,
after the delay the service asked for; everything else fails at once. A spent budget
does not come back and is not retried either.

Attempts are counted here, because those that a full queue refused do not count: how many
there were travels from attempt to attempt in the heartbeat.
"""

# ruff: noqa: A002 (the names are those of the base classes)

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import temporalio.worker
from temporalio import activity
from temporalio.exceptions import ApplicationError

from services.common.call_context import use_context
from services.common.errors import DeadlineExceeded, SaexplainError
from services.orchestrator import policies
from services.orchestrator.context_propagation import WorkflowContextInbound, context_of
from services.orchestrator.policies import HEARTBEAT_SECONDS

RETRYABLE = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED", "ABORTED", "DEADLINE_EXCEEDED"})
FINAL_REASONS = frozenset({"BUDGET_EXHAUSTED", "MESSAGE_TOO_LARGE"})
CROWDED = "QUEUE_FULL"
ATTEMPTS_BY_REASON = {"LLM_REPLY_UNUSABLE": 3}
"""Attempts after which a reason is final, where that is fewer than the policy allows:
a model that answers uselessly three times is not going to change its mind."""


def as_application_error(
    error: SaexplainError, attempt: int, attempts: int = sys.maxsize
) -> ApplicationError:
    """The error as Temporal has to see it.

    Args:
        attempt: which attempt failed, from 1; those that a full queue refused left out.
        attempts: how many there may be.
    """
    limit = min(attempts, ATTEMPTS_BY_REASON.get(error.reason, attempts))
    retryable = error.status in RETRYABLE and error.reason not in FINAL_REASONS
    retryable = retryable and (error.reason == CROWDED or attempt < limit)
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
        info = activity.info()
        with use_context(context_of(input.headers)):
            if info.is_local:  # Temporal counts: nothing of ours has a queue there
                return await self._typed(input, info.attempt, sys.maxsize)
            crowded = _crowded_before(info)
            attempt, attempts = info.attempt - crowded, policies.attempts(info.activity_type)
            if attempt > attempts:  # the last one ended without a word
                raise as_application_error(
                    DeadlineExceeded(f"{info.activity_type} gave no answer in time"),
                    attempt,
                    attempts,
                )
            try:
                async with _heartbeats(crowded):
                    return await self._typed(input, attempt, attempts)
            except ApplicationError as error:
                if error.type == CROWDED:
                    activity.heartbeat(crowded + 1)
                raise

    async def _typed(
        self, input: temporalio.worker.ExecuteActivityInput, attempt: int, attempts: int
    ) -> Any:
        try:
            return await super().execute_activity(input)
        except SaexplainError as error:
            raise as_application_error(error, attempt, attempts) from error


def _crowded_before(info: activity.Info) -> int:
    """Attempts so far that a full queue refused."""
    return int(info.heartbeat_details[0]) if info.heartbeat_details else 0


@contextlib.asynccontextmanager
async def _heartbeats(crowded: int) -> AsyncIterator[None]:
    """Heartbeats while the body runs, each with the count of refused attempts."""
    beating = asyncio.create_task(_beat(crowded))
    try:
        yield
    finally:
        beating.cancel()


async def _beat(crowded: int) -> None:
    while True:
        activity.heartbeat(crowded)
        await asyncio.sleep(HEARTBEAT_SECONDS)


def remaining_seconds() -> float:
    """Time left for a call inside the running activity: the deadline travels with it."""
    info = activity.info()
    limit = info.start_to_close_timeout
    return max(limit.total_seconds() - 1.0, 1.0) if limit is not None else 60.0
