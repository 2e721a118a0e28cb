"""How the workflow ExplainFeature calls its steps: what every call carries, what every
result adds to the account of a run. Deterministic code, like all of the workflow."""

from __future__ import annotations

from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from services.orchestrator import policies
    from services.orchestrator.records import (
        ArtifactRef,
        ExplainInput,
        Spending,
        StepCall,
        StepResult,
    )
    from services.orchestrator.workflows.failures import budget_unit, reason_of

TOLERATED = frozenset({"BUDGET_EXHAUSTED", "LLM_REPLY_UNUSABLE", "UNSUPPORTED"})
"""Reasons that cost a score, a candidate's number or a baseline, not the run."""


class Steps:
    """The steps of one run.

    Attributes:
        plan: the workflow's input.
        refs: artifacts by role.
        used: what the run has spent.
        round: round of the loop, 0 before the first.
        retry_count: attempts beyond the first so far.
        backend: what computed activations.
    """

    def __init__(self, plan: ExplainInput) -> None:
        self.plan = plan
        self.refs: dict[str, ArtifactRef] = {}
        self.used = Spending()
        self.round = 0
        self.retry_count = 0
        self.backend = ""

    def inputs(self, *roles: str) -> dict[str, ArtifactRef]:
        """The artifacts of roles, those left out that there are none of."""
        return {role: self.refs[role] for role in roles if role in self.refs}

    def call(self, **fields: Any) -> StepCall:
        """A call with what every step gets; unset fields stay out of the history."""
        fields.setdefault("round", self.round)
        return StepCall(explanation=self.plan.explanation, plan=self.plan.plan, **fields)

    async def run(self, step: str, *roles: str) -> StepResult:
        """A step on its queue, by the policy of its name."""
        used = {"used": self.used} if step == "design_probes" else {}
        return await self.run_call(step, self.call(inputs=self.inputs(*roles), **used))

    async def run_call(self, step: str, call: StepCall) -> StepResult:
        """The same for a call of its own."""
        result = await workflow.execute_activity(
            step, call, result_type=StepResult, **policies.options(step)
        )
        return self._noted(result)

    async def run_local(self, step: str, *roles: str) -> StepResult:
        """A step of our own code, beside the workflow."""
        return await self.run_local_call(
            step, self.call(inputs=self.inputs(*roles), used=self.used)
        )

    async def run_local_call(self, step: str, call: StepCall) -> StepResult:
        """The same for a call of its own."""
        result = await workflow.execute_local_activity(
            step, call, result_type=StepResult, **policies.local_options(step)
        )
        return self._noted(result)

    def spend(self, **changes: int) -> None:
        """Writes counters of the account anew."""
        self.used = self.used.model_copy(update=changes)

    def _noted(self, result: StepResult) -> StepResult:
        self.used = self.used.model_copy(
            update={
                "llm_token_count": self.used.llm_token_count + result.llm_token_count,
                "cost": self.used.cost + result.cost,
            }
        )
        self.retry_count += result.attempt - 1
        self.backend = result.backend or self.backend
        return result


def artifact_of(result: StepResult) -> ArtifactRef:
    """What a step stored."""
    if result.artifact is None:
        raise ApplicationError("a step stored nothing", type="STATE_CONFLICT", non_retryable=True)
    return result.artifact


def state_of(result: StepResult) -> ArtifactRef:
    """The state that a step left."""
    if result.state is None:
        raise ApplicationError("a step left no state", type="STATE_CONFLICT", non_retryable=True)
    return result.state


def budget_stop(error: ActivityError) -> str:
    """A spent budget as a reason to stop; raises any other error."""
    reason, _ = reason_of(error)
    if reason != "BUDGET_EXHAUSTED":
        raise error
    return "LLM_TOKENS_SPENT" if budget_unit(error) == "tokens" else "COST_SPENT"
