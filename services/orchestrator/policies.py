"""Who runs a step, how long it may take and how often it is tried: all of it is here.

Temporal owns every retry. Which errors are worth one is said by `activity_shell`; how
often and how far apart is said here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypedDict

from temporalio.common import RetryPolicy

CONTROL = "saexplain-control"
ACTIVATION = "saexplain-activation"
LLM = "saexplain-llm"
INDEX = "saexplain-index"
QUEUES = (CONTROL, ACTIVATION, LLM, INDEX)

HEARTBEAT_SECONDS = 10.0
"""How often the shell sends a heartbeat while an activity runs."""

JUDGE_CHUNK = 32
"""Items that one call of a judge that asks a language model gets."""

JUDGES_AT_ONCE = 4
"""Chunks of judging that one method has in flight."""

SHARDS_AT_ONCE = 4
"""Shards of an index that one build has in flight."""


_COUNTED_BY_THE_SHELL = 0
"""Temporal sets no limit: it would count refusals for a full queue too."""


class ActivityOptions(TypedDict):
    """Keyword arguments of `workflow.execute_activity`."""

    task_queue: str
    start_to_close_timeout: timedelta
    schedule_to_close_timeout: timedelta
    heartbeat_timeout: timedelta
    retry_policy: RetryPolicy


class LocalOptions(TypedDict):
    """Keyword arguments of `workflow.execute_local_activity`."""

    start_to_close_timeout: timedelta
    retry_policy: RetryPolicy


@dataclass(frozen=True)
class Policy:
    """Queue, limits and retries of a step.

    Attributes:
        queue: task queue.
        timeout_seconds: one attempt.
        attempts: attempts at most, refusals for a full queue not counted: a service that
            has too much to do is not broken, and the more runs wait for it the longer it
            takes. `activity_shell` keeps that count.
        first_delay_seconds: before the second attempt; doubles up to `longest_delay_seconds`
            unless the error says when to retry.
        patience_seconds: all attempts together, waiting for a worker included; this ends
            what is refused for ever.
    """

    queue: str
    timeout_seconds: float
    attempts: int
    first_delay_seconds: float = 1.0
    longest_delay_seconds: float = 60.0
    patience_seconds: float = 24 * 3600

    def _retry(self, attempts: int) -> RetryPolicy:
        return RetryPolicy(
            initial_interval=timedelta(seconds=self.first_delay_seconds),
            backoff_coefficient=2.0,
            maximum_interval=timedelta(seconds=self.longest_delay_seconds),
            maximum_attempts=attempts,
        )

    def options(self) -> ActivityOptions:
        """For an activity on a queue."""
        return {
            "task_queue": self.queue,
            "start_to_close_timeout": timedelta(seconds=self.timeout_seconds),
            "schedule_to_close_timeout": timedelta(seconds=self.patience_seconds),
            "heartbeat_timeout": timedelta(seconds=4 * HEARTBEAT_SECONDS),
            "retry_policy": self._retry(_COUNTED_BY_THE_SHELL),
        }

    def local_options(self) -> LocalOptions:
        """For a control step that runs beside the workflow."""
        return {
            "start_to_close_timeout": timedelta(seconds=self.timeout_seconds),
            "retry_policy": self._retry(self.attempts),
        }


# Fifteen attempts span about ten minutes: a restart of a service is waited out.
_CONTROL = Policy(CONTROL, timeout_seconds=60, attempts=15)
_READ = Policy(ACTIVATION, timeout_seconds=120, attempts=15)
_ENCODE = Policy(ACTIVATION, timeout_seconds=600, attempts=15)
_AGENT = Policy(LLM, timeout_seconds=900, attempts=15, first_delay_seconds=2)
_SHARD = Policy(
    INDEX,
    timeout_seconds=6 * 3600,
    attempts=10,
    first_delay_seconds=2,
    patience_seconds=7 * 24 * 3600,
)

STEPS: dict[str, Policy] = {
    "get_feature": _READ,
    "list_exemplars": _READ,
    "list_token_neighbors": _READ,
    "list_other_exemplars": _READ,
    "propose_other": _AGENT,
    "propose_hypotheses": _AGENT,
    "design_probes": _AGENT,
    "encode_probes": _ENCODE,
    "revise_hypotheses": _AGENT,
    "synthesize": _AGENT,
    "compare_candidates": Policy(LLM, timeout_seconds=3600, attempts=15, first_delay_seconds=2),
    "list_score_windows": _READ,
    "plan_score": _AGENT,
    "encode_texts": _ENCODE,
    "judge": Policy(LLM, timeout_seconds=3600, attempts=15, first_delay_seconds=2),
    "score": _AGENT,
    "plan_index": _SHARD,
    "index_shard": _SHARD,
    "merge_index": _SHARD,
}
"""Steps that are one RPC each, run on a queue."""

LOCAL_STEPS: dict[str, Policy] = {
    "decide": _CONTROL,
    "choose_explanation": _CONTROL,
    "judge": _CONTROL,
    "record": _CONTROL,
    "end": _CONTROL,
    "end_index": _CONTROL,
}
"""Steps that are our own code, and judging by a pattern, which takes milliseconds: local
activities, one event of history each."""


def options(step: str) -> Any:
    """Keyword arguments for a step that runs on a queue."""
    return STEPS[step].options()


def attempts(step: str) -> int:
    """Attempts of a step that runs on a queue."""
    return STEPS[step].attempts


def local_options(step: str) -> Any:
    """Keyword arguments for a step of our own code."""
    return LOCAL_STEPS[step].local_options()
