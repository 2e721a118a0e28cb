"""Steps 5 and 7 as far as they are our own code: verdicts, and the choice between
candidates. Local activities: no call leaves the process but to artifacts and store."""

from __future__ import annotations

from temporalio import activity

from saexplain.agent.v1 import agent_pb2
from saexplain.common.v1 import explanation_pb2, feature_pb2
from saexplain.explanation.v1 import dossier_pb2
from services.common.canonical import digest
from services.orchestrator import budgets, evidence, selecting, verdicts
from services.orchestrator.activities.explaining import describe_statuses
from services.orchestrator.activities.workspace import Workspace, attempt
from services.orchestrator.records import Spending, StepCall, StepResult


class DecidingActivities:
    """Verdicts and choices."""

    def __init__(self, work: Workspace) -> None:
        self._work = work

    @activity.defn(name="decide")
    async def decide(self, call: StepCall) -> StepResult:
        """Counts a round's results, gives verdicts, and says whether the loop ends."""
        plan = await self._work.plan(call)
        before = await self._work.load(call.inputs["state"], agent_pb2.RunState)
        measured = await self._work.load(call.inputs["measured"], dossier_pb2.Dossier)
        gathered = await self._work.load(call.inputs["evidence"], agent_pb2.Evidence)
        results = measured.rounds[0].results

        decides = plan.loop.verdict_source != agent_pb2.VERDICT_SOURCE_EXPLAINER

        async def compute() -> agent_pb2.RunState:
            exemplars = [window.name for window in evidence.top_windows(gathered.windows)]
            return verdicts.decide(
                before, results, plan.thresholds, exemplars, call.round, decides=decides
            )

        after, ref = await self._work.keep(call, "decide", agent_pb2.RunState, compute)
        statuses = describe_statuses(list(after.hypotheses))
        uncovered = len(after.uncovered_windows)
        await self._work.note(
            call,
            "decide",
            f"{statuses}; {uncovered} exemplars uncovered.",
            hypotheses=after.hypotheses,
        )
        stop = verdicts.stop_after(before, after, results) if decides else None
        if stop is None:
            reserve = budgets.reply_limit(plan.explainer.llm)
            stop = budgets.spent(plan.budget, call.used or Spending(), call.round, reserve)
        return StepResult(
            artifact=ref,
            state=ref,
            count=len(verdicts.open_hypotheses(after)),
            stop=budgets.stop_name(stop) if stop is not None else "",
            candidate=verdicts.standing_key(after),
            attempt=attempt(),
        )

    @activity.defn(name="choose_explanation")
    async def choose_explanation(self, call: StepCall) -> StepResult:
        """Chooses a candidate and fixes the explanation's digest: what comes after this
        step may read HELDOUT."""
        facts = await self._work.load(call.inputs["facts"], feature_pb2.FeatureFacts)
        candidates: list[dossier_pb2.Candidate] = []
        if "candidates" in call.inputs:
            written = await self._work.load(call.inputs["candidates"], dossier_pb2.Dossier)
            candidates.extend(written.candidates)

        async def compute() -> dossier_pb2.Dossier:
            return await self._chosen(call, facts, candidates)

        fragment, ref = await self._work.keep(
            call, "choose_explanation", dossier_pb2.Dossier, compute
        )
        await self._work.store.fix_explanation(
            call.explanation, fragment.explanation, self._work.now()
        )
        status = explanation_pb2.ExplanationStatus.Name(fragment.explanation.status)
        await self._work.note(
            call,
            "choose_explanation",
            fragment.explanation.label or status.removeprefix("EXPLANATION_STATUS_"),
        )
        return StepResult(
            artifact=ref,
            digest=fragment.explanation_digest,
            has_pattern=fragment.explanation.HasField("pattern"),
            has_explanation=fragment.explanation.status in selecting.SCORABLE,
            attempt=attempt(),
        )

    async def _chosen(
        self,
        call: StepCall,
        facts: feature_pb2.FeatureFacts,
        candidates: list[dossier_pb2.Candidate],
    ) -> dossier_pb2.Dossier:
        stop = budgets.stop_value(call.note)
        fragment = dossier_pb2.Dossier(stop_reason=stop, candidates=candidates)
        chosen = selecting.choose(candidates)
        if chosen is not None:
            fragment.candidates[chosen].chosen = True
            fragment.explanation.CopyFrom(candidates[chosen].explanation)
        else:
            fragment.explanation.CopyFrom(await self._without_candidate(call, facts, stop))
        fragment.partial = stop in budgets.BUDGET_STOPS and await self._undecided(call)
        fragment.explanation_digest = digest(fragment.explanation)
        return fragment

    async def _undecided(self, call: StepCall) -> bool:
        """Whether something was left to test; True where not even a proposal was made."""
        if "state" not in call.inputs:
            return True
        state = await self._work.load(call.inputs["state"], agent_pb2.RunState)
        return not verdicts.is_decided(state)

    async def _without_candidate(
        self,
        call: StepCall,
        facts: feature_pb2.FeatureFacts,
        stop: dossier_pb2.StopReason.ValueType,
    ) -> explanation_pb2.Explanation:
        if not facts.reference_max > 0:
            return explanation_pb2.Explanation(
                status=explanation_pb2.EXPLANATION_STATUS_NO_EVIDENCE,
                status_detail="The feature does not fire in the EXPLAIN split.",
            )
        if stop in budgets.BUDGET_STOPS:
            detail = f"A budget ended the run before a synthesis ({budgets.stop_name(stop)})."
        else:
            proposal = agent_pb2.ProposeHypothesesResponse()
            if "proposal" in call.inputs:
                proposal = await self._work.load(call.inputs["proposal"], type(proposal))
            detail = proposal.no_hypothesis_reason or "The evidence supports no hypothesis."
        return explanation_pb2.Explanation(
            status=explanation_pb2.EXPLANATION_STATUS_NO_EXPLANATION, status_detail=detail
        )
