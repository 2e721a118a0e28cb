"""Step 9, record: the dossier, the run record and the end of the row. And the other ends:
failed and cancelled. Safe to repeat: a run ends once."""

from __future__ import annotations

from importlib.metadata import version

from temporalio import activity

from saexplain.agent.v1 import agent_pb2
from saexplain.common.v1 import feature_pb2
from saexplain.explanation.v1 import dossier_pb2, explanation_pb2
from saexplain.scorer.v1 import scorer_pb2
from services.orchestrator.activities.workspace import Workspace, attempt
from services.orchestrator.dossier import DossierParts, assemble, scores_of
from services.orchestrator.records import EndCall, StepCall, StepResult
from services.orchestrator.store.explanations import Ending
from services.orchestrator.store.journal import JournalStore


class RecordingActivities:
    """Writes the ends of runs."""

    def __init__(self, work: Workspace, journal: JournalStore) -> None:
        self._work = work
        self._journal = journal

    @activity.defn(name="record")
    async def record(self, call: StepCall) -> StepResult:
        """Assembles and stores the dossier and ends the run well."""
        parts = await self._parts(call)

        async def compute() -> dossier_pb2.Dossier:
            return assemble(parts)

        dossier, dossier_ref = await self._work.keep(call, "dossier", dossier_pb2.Dossier, compute)
        _, run_ref = await self._work.keep(
            call, "run_record", dossier_pb2.RunRecord, lambda: self._run_record(call)
        )
        ending = Ending(
            state=explanation_pb2.RUN_STATE_SUCCEEDED,
            scores=scores_of(dossier),
            dossier=dossier_ref,
            run_record=run_ref,
            dossier_digest=dossier.digest,
            stop_reason=dossier.stop_reason,
            partial=dossier.partial,
        )
        event = explanation_pb2.ExplanationEvent(
            step="end", round=call.round, message=dossier.explanation.label or "No explanation."
        )
        await self._work.store.end(call.explanation, ending, event, self._work.now())
        return StepResult(artifact=dossier_ref, digest=dossier.digest, attempt=attempt())

    @activity.defn(name="end")
    async def end(self, call: EndCall) -> None:
        """Ends a run without a result: failed, with its reason, or cancelled."""
        cancelled = call.cancelled
        state = (
            explanation_pb2.RUN_STATE_CANCELLED if cancelled else explanation_pb2.RUN_STATE_FAILED
        )
        failure = None
        if not cancelled:
            failure = explanation_pb2.RunFailure(
                reason=call.reason, message=call.message, step=call.step
            )
        message = "Cancelled." if cancelled else f"{call.step}: {call.reason}: {call.message}"
        event = explanation_pb2.ExplanationEvent(step="end", message=message)
        await self._work.store.end(
            call.explanation, Ending(state=state, failure=failure), event, self._work.now()
        )

    async def _run_record(self, call: StepCall) -> dossier_pb2.RunRecord:
        run = dossier_pb2.RunRecord(
            retry_count=call.retry_count,
            activation_backend=call.backend,
            software_version=version("saexplain"),
        )
        run.start_time.FromJsonString(call.note)
        run.end_time.FromDatetime(self._work.now())
        row = await self._work.store.get(call.explanation)
        run.usage.ParseFromString(row["usage"])
        journal = await self._journal.usage(call.explanation)
        if journal.request_count:
            # The journal knows of failed and lost calls that no step could report.
            journal.reused_reply_count = run.usage.reused_reply_count
            run.usage.CopyFrom(journal)
        return run

    async def _parts(self, call: StepCall) -> DossierParts:
        load = self._work.load
        results = {}
        for role, ref in call.inputs.items():
            if role.startswith("score."):
                response = await load(ref, scorer_pb2.ScoreResponse)
                results[int(role.removeprefix("score."))] = response.result
        final = call.inputs.get("state")
        return DossierParts(
            plan=await self._work.plan(call),
            evidence=await self._evidence(call),
            chosen=await load(call.inputs["explanation"], dossier_pb2.Dossier),
            measured=[await load(r, dossier_pb2.Dossier) for r in call.lists.get("measured", ())],
            decided=[await load(r, agent_pb2.RunState) for r in call.lists.get("decided", ())],
            revised=[
                await load(r, agent_pb2.ReviseHypothesesResponse)
                for r in call.lists.get("revised", ())
            ],
            final_state=await load(final, agent_pb2.RunState) if final is not None else None,
            results=results,
            failures={int(place): why for place, why in call.failures.items()},
            catalog=await load(call.inputs["catalog"], scorer_pb2.ListMethodsResponse),
        )

    async def _evidence(self, call: StepCall) -> agent_pb2.Evidence:
        """What the explainer saw; the facts alone where nothing was explained."""
        if "evidence" in call.inputs:
            return await self._work.load(call.inputs["evidence"], agent_pb2.Evidence)
        facts = await self._work.load(call.inputs["facts"], feature_pb2.FeatureFacts)
        return agent_pb2.Evidence(facts=facts)
