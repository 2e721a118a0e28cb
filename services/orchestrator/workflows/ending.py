"""How the runs of explanations end when they do not end well, written down alike by all."""

from __future__ import annotations

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from services.orchestrator import policies
    from services.orchestrator.records import EndCall
    from services.orchestrator.workflows.failures import reason_of

_MESSAGE_CHARACTERS = 1000


async def write_down(explanation: str, error: BaseException, step: str) -> None:
    """Writes the end of a run that an error ended, where the error is one of a step or a
    cancellation; the caller raises any other, and a cancellation, again.

    Args:
        explanation: name of the explanation.
        error: what ended the run.
        step: where a cancelled run stood.

    Raises:
        ApplicationError: a step failed; with the reason of its error.
    """
    if is_cancelled_exception(error):
        await _end(
            EndCall(
                explanation=explanation, cancelled=True, reason="CANCELLED", message="", step=step
            )
        )
    elif isinstance(error, ActivityError):
        reason, message = reason_of(error)
        await _end(
            EndCall(
                explanation=explanation,
                cancelled=False,
                reason=reason,
                message=message[:_MESSAGE_CHARACTERS],
                step=error.activity_type,
            )
        )
        raise ApplicationError(message, type=reason, non_retryable=True) from error


async def _end(call: EndCall) -> None:
    await workflow.execute_local_activity("end", call, **policies.local_options("end"))
