"""Steps 2, 3, 6 and 7: the four calls of the agent service."""

from __future__ import annotations

from temporalio import activity

from saexplain.agent.v1 import agent_pb2
from saexplain.common.v1 import experiment_pb2, explanation_pb2
from services.orchestrator import budgets, evidence, verdicts
from services.orchestrator.activities.calls import unary
from services.orchestrator.activities.workspace import Workspace, attempt, check_size, scope
from services.orchestrator.records import ArtifactRef, Spending, StepCall, StepResult
from services.orchestrator.selecting import SCORABLE


class ExplainingActivities:
    """Calls of the agent. Each sends all that its step needs, and nothing else."""

    def __init__(self, work: Workspace) -> None:
        self._work = work

    @activity.defn(name="propose_hypotheses")
    async def propose_hypotheses(self, call: StepCall) -> StepResult:
        """ProposeHypotheses: stores the answer and the first state."""
        plan = await self._work.plan(call)

        async def compute() -> agent_pb2.ProposeHypothesesResponse:
            request = agent_pb2.ProposeHypothesesRequest(
                options=plan.explainer,
                scope=scope(call, "propose_hypotheses"),
                evidence=await self._evidence(call),
            )
            check_size(request, "the evidence")
            return await unary(self._work.services.agent.ProposeHypotheses, request)

        response, ref = await self._work.keep(
            call, "propose_hypotheses", agent_pb2.ProposeHypothesesResponse, compute
        )
        state = await self._keep_state(
            call, "proposed", agent_pb2.RunState(hypotheses=response.hypotheses)
        )
        count = len(response.hypotheses)
        await self._work.note(
            call,
            "propose_hypotheses",
            f"{count} hypotheses." if count else f"No hypothesis: {response.no_hypothesis_reason}",
            usage=response.usage,
            hypotheses=response.hypotheses,
        )
        return StepResult(
            artifact=ref,
            state=state,
            count=count,
            llm_token_count=budgets.token_count(response.usage),
            cost=response.usage.cost,
            attempt=attempt(),
        )

    @activity.defn(name="design_probes")
    async def design_probes(self, call: StepCall) -> StepResult:
        """DesignProbes: stores probes and refused ones, cut to the budget of probes."""
        plan = await self._work.plan(call)
        state = await self._work.load(call.inputs["state"], agent_pb2.RunState)
        used = call.used or Spending()

        async def compute() -> agent_pb2.DesignProbesResponse:
            request = agent_pb2.DesignProbesRequest(
                options=plan.explainer,
                scope=scope(call, "design_probes"),
                evidence=await self._evidence(call),
                state=state,
            )
            request.state.round = call.round
            check_size(request, "the request for probes")
            response: agent_pb2.DesignProbesResponse = await unary(
                self._work.services.agent.DesignProbes, request
            )
            remaining = plan.budget.max_probe_count - used.probe_count
            kept = budgets.keep_within(response.probes, remaining)
            del response.probes[:]
            response.probes.extend(kept)
            return response

        response, ref = await self._work.keep(
            call, "design_probes", agent_pb2.DesignProbesResponse, compute
        )
        await self._work.note(
            call,
            "design_probes",
            f"{len(response.probes)} probes, {len(response.refused_probes)} refused.",
            usage=response.usage,
        )
        return StepResult(
            artifact=ref,
            count=len(response.probes),
            llm_token_count=budgets.token_count(response.usage),
            cost=response.usage.cost,
            attempt=attempt(),
        )

    @activity.defn(name="revise_hypotheses")
    async def revise_hypotheses(self, call: StepCall) -> StepResult:
        """ReviseHypotheses: stores the answer and the state for the next round."""
        plan = await self._work.plan(call)
        state = await self._work.load(call.inputs["state"], agent_pb2.RunState)

        async def compute() -> agent_pb2.ReviseHypothesesResponse:
            request = agent_pb2.ReviseHypothesesRequest(
                options=plan.explainer,
                scope=scope(call, "revise_hypotheses"),
                evidence=await self._evidence(call),
                state=state,
            )
            check_size(request, "the request for a revision")
            return await unary(self._work.services.agent.ReviseHypotheses, request)

        response, ref = await self._work.keep(
            call, "revise_hypotheses", agent_pb2.ReviseHypothesesResponse, compute
        )
        gathered = await self._evidence(call)
        exemplars = [window.name for window in evidence.top_windows(gathered.windows)]
        revised = verdicts.after_revision(state, response, exemplars)
        decides = plan.loop.verdict_source != agent_pb2.VERDICT_SOURCE_EXPLAINER
        stop = verdicts.stop_after_revision(revised, decides=decides)
        state_ref = await self._keep_state(call, "revised", revised)
        await self._work.note(
            call,
            "revise_hypotheses",
            f"{len(response.operations)} changes.",
            usage=response.usage,
            hypotheses=response.hypotheses,
        )
        return StepResult(
            artifact=ref,
            state=state_ref,
            count=len(verdicts.open_hypotheses(revised)),
            stop=budgets.stop_name(stop) if stop is not None else "",
            candidate=verdicts.standing_key(revised),
            llm_token_count=budgets.token_count(response.usage),
            cost=response.usage.cost,
            attempt=attempt(),
        )

    @activity.defn(name="synthesize")
    async def synthesize(self, call: StepCall) -> StepResult:
        """Synthesize: stores one candidate's explanation."""
        plan = await self._work.plan(call)

        async def compute() -> agent_pb2.SynthesizeResponse:
            request = agent_pb2.SynthesizeRequest(
                options=plan.explainer,
                scope=scope(call, "synthesize"),
                evidence=await self._evidence(call),
            )
            if "state" in call.inputs:
                state = await self._work.load(call.inputs["state"], agent_pb2.RunState)
                request.state.CopyFrom(state)
            check_size(request, "the request for a synthesis")
            return await unary(self._work.services.agent.Synthesize, request)

        response, ref = await self._work.keep(
            call, "synthesize", agent_pb2.SynthesizeResponse, compute
        )
        explanation = response.explanation
        status = explanation_pb2.ExplanationStatus.Name(explanation.status)
        await self._work.note(
            call,
            "synthesize",
            explanation.label or status.removeprefix("EXPLANATION_STATUS_"),
            usage=response.usage,
        )
        return StepResult(
            artifact=ref,
            has_pattern=explanation.HasField("pattern"),
            has_explanation=explanation.status in SCORABLE,
            llm_token_count=budgets.token_count(response.usage),
            cost=response.usage.cost,
            attempt=attempt(),
        )

    async def _evidence(self, call: StepCall) -> agent_pb2.Evidence:
        return await self._work.load(call.inputs["evidence"], agent_pb2.Evidence)

    async def _keep_state(
        self, call: StepCall, when: str, state: agent_pb2.RunState
    ) -> ArtifactRef:
        async def compute() -> agent_pb2.RunState:
            return state

        _, ref = await self._work.keep(call, f"state.{when}", agent_pb2.RunState, compute)
        return ref


def describe_statuses(hypotheses: list[experiment_pb2.Hypothesis]) -> str:
    """Statuses with their counts, such as `2 supported, 1 open`."""
    counts: dict[str, int] = {}
    for hypothesis in hypotheses:
        name = experiment_pb2.HypothesisStatus.Name(hypothesis.status)
        word = name.removeprefix("HYPOTHESIS_STATUS_").lower()
        counts[word] = counts.get(word, 0) + 1
    return ", ".join(f"{count} {word}" for word, count in sorted(counts.items())) or "none"
