"""The durable scoring of an explanation that is there already.

    1 facts    what is known of the feature
    2 score    per method, on HELDOUT, read once (`scoring.py`); beside it the baseline of
               another feature
    3 record   dossier, run record, the end of the row

The explanation and its digest were fixed when the run was made, before any of its windows
was read. A restart loses nothing but calls in flight, as in ExplainFeature.
"""

from __future__ import annotations

import asyncio
from datetime import UTC
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from services.orchestrator.records import ArtifactRef, ExplainInput, ExplainOutput
    from services.orchestrator.workflows.ending import write_down
    from services.orchestrator.workflows.scoring import explain_other, score_methods
    from services.orchestrator.workflows.steps import Steps, artifact_of


@workflow.defn(name="ScoreExplanation")
class ScoreExplanation:
    """The scores of one explanation."""

    @workflow.init
    def __init__(self, plan: ExplainInput) -> None:
        self._steps = Steps(plan)
        self._step = "gather"

    @workflow.run
    async def run(self, plan: ExplainInput) -> ExplainOutput:
        """Runs the three steps; writes down the end, whatever it is."""
        try:
            return await self._score(_fixed(plan))
        except BaseException as error:
            await write_down(plan.explanation, error, self._step)
            raise

    @workflow.query
    def progress(self) -> dict[str, Any]:
        """Where the run stands: step and what it has spent."""
        return {"step": self._step, **self._steps.used.model_dump()}

    async def _score(self, fixed: ArtifactRef) -> ExplainOutput:
        steps = self._steps
        facts = await steps.run("get_feature")
        steps.refs |= {"facts": artifact_of(facts), "explanation": fixed}
        other = asyncio.create_task(explain_other(steps, facts.other_feature))
        try:
            self._step = "score"
            failures = await score_methods(steps, await other)
        finally:
            other.cancel()
        return await self._record(failures)

    async def _record(self, failures: dict[str, str]) -> ExplainOutput:
        self._step = "record"
        steps = self._steps
        scores = sorted(role for role in steps.refs if role.startswith("score."))
        call = steps.call(
            inputs=steps.inputs("facts", "explanation", "catalog", *scores),
            failures=failures,
            backend=steps.backend,
            retry_count=steps.retry_count,
            note=workflow.info().start_time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        )
        recorded = await steps.run_local_call("record", call)
        return ExplainOutput(dossier=artifact_of(recorded), digest=recorded.digest)


def _fixed(plan: ExplainInput) -> ArtifactRef:
    if plan.fixed is None:
        raise ApplicationError(
            "no explanation was fixed", type="STATE_CONFLICT", non_retryable=True
        )
    return plan.fixed
