"""The durable run of one explanation.

    1 gather      facts, exemplars, neighbours (EXPLAIN; SELECT is set aside)
    2 propose     hypotheses
    3 design      probes                        ┐
    4 measure     one batched encode            │ a round, until all is decided,
    5 decide      verdicts; stop?               │ nothing moves or a budget is spent
    6 revise      hypotheses, from failures     ┘
    7 synthesise  a candidate per round that left something new standing; the one that
                  does best on SELECT is chosen and its digest fixed
    8 score       per method, on HELDOUT, read once
    9 record      dossier, run record, the end of the row

A restart loses nothing but calls in flight: every step's result is an artifact, and the
history holds their references. A spent budget of tokens or money ends the loop or a score,
not the run. Any other error that outlives its retries fails the run with its reason.
"""

from __future__ import annotations

import asyncio
from datetime import UTC
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from services.orchestrator import policies
    from services.orchestrator.records import (
        ArtifactRef,
        EndCall,
        ExplainInput,
        ExplainOutput,
        Spending,
        StepCall,
        StepResult,
    )
    from services.orchestrator.workflows.failures import budget_unit, reason_of

TOLERATED = frozenset({"BUDGET_EXHAUSTED", "LLM_REPLY_UNUSABLE", "UNSUPPORTED"})
"""Reasons that cost a score or a baseline, not the run."""


@workflow.defn(name="ExplainFeature")
class ExplainFeature:
    """One explanation."""

    def __init__(self) -> None:
        self._used = Spending()
        self._retry_count = 0
        self._backend = ""
        self._step = "gather"
        self._round = 0
        self._stop = ""
        # Artifacts by role; what there is once per round is in the lists.
        self._refs: dict[str, ArtifactRef] = {}
        self._measured: list[ArtifactRef] = []
        self._decided: list[ArtifactRef] = []
        self._revised: list[ArtifactRef] = []
        self._standing: list[tuple[int, str, ArtifactRef]] = []
        self._candidates: list[ArtifactRef] = []
        self._failures: dict[str, str] = {}

    @workflow.run
    async def run(self, plan: ExplainInput) -> ExplainOutput:
        """Runs the nine steps; writes down the end, whatever it is."""
        self._plan = plan
        try:
            return await self._explain()
        except BaseException as error:
            if is_cancelled_exception(error):
                await self._end(cancelled=True, reason="CANCELLED", message="", step=self._step)
                raise
            if not isinstance(error, ActivityError):
                raise
            reason, message = reason_of(error)
            step = error.activity_type
            await self._end(cancelled=False, reason=reason, message=message, step=step)
            raise ApplicationError(message, type=reason, non_retryable=True) from error

    @workflow.query
    def progress(self) -> dict[str, Any]:
        """Where the run stands: step, round and what it has spent."""
        return {"step": self._step, "round": self._round, **self._used.model_dump()}

    async def _explain(self) -> ExplainOutput:
        has_evidence = await self._gather()
        other = asyncio.create_task(self._explain_other_feature())
        try:
            if has_evidence and await self._propose():
                await self._rounds()
                await self._synthesise()
            if await self._choose():
                await self._score(await other)
            return await self._record()
        finally:
            other.cancel()

    # 1

    async def _gather(self) -> bool:
        """Whether the feature fires in the EXPLAIN split."""
        facts, windows = await asyncio.gather(
            self._run_step("get_feature"), self._run_step("list_exemplars")
        )
        self._refs["facts"] = _artifact(facts)
        self._refs["windows"] = _artifact(windows)
        self._other_feature = facts.other_feature
        neighbors = await self._run_step("list_token_neighbors", "facts", "windows")
        self._refs["evidence"] = _artifact(neighbors)
        return facts.count > 0

    async def _explain_other_feature(self) -> ArtifactRef | None:
        """The baseline of a density-matched other feature, where it can be had."""
        version = self._plan.baseline_explainer_version
        if not (self._other_feature and version):
            return None
        try:
            evidence = await self._run_step("list_other_exemplars", "facts")
            proposed = await self._run_call(
                "propose_other",
                self._call(note=version, inputs={"evidence": _artifact(evidence)}),
            )
        except ActivityError as error:
            if reason_of(error)[0] in TOLERATED:
                return None
            raise
        return proposed.artifact if proposed.has_pattern else None

    # 2

    async def _propose(self) -> bool:
        """Whether there is something to test."""
        self._step = "propose"
        try:
            proposed = await self._run_step("propose_hypotheses", "evidence")
        except ActivityError as error:
            self._stop_for_budget(error)
            return False
        self._refs["proposal"] = _artifact(proposed)
        self._refs["state"] = _state(proposed)
        self._used = self._used.model_copy(
            update={"synthesis_token_count": proposed.llm_token_count}
        )
        if not proposed.count:
            self._stop = "NO_HYPOTHESIS"
        return proposed.count > 0

    # 3 to 6

    async def _rounds(self) -> None:
        """Rounds until there is a reason to stop."""
        while not self._stop:
            self._round += 1
            before = self._used.llm_token_count
            try:
                await self._one_round()
            except ActivityError as error:
                self._stop_for_budget(error)
            self._used = self._used.model_copy(
                update={"last_round_token_count": self._used.llm_token_count - before}
            )
        if not self._standing:
            self._standing.append((self._round, "", self._refs["state"]))

    async def _one_round(self) -> None:
        self._step = "design"
        design = await self._run_step("design_probes", "evidence", "state")
        if not design.count:
            self._stop = "NO_PROGRESS"
            return
        self._refs["design"] = _artifact(design)
        self._step = "measure"
        measured = await self._run_step("encode_probes", "evidence", "design")
        self._refs["measured"] = _artifact(measured)
        self._measured.append(self._refs["measured"])
        self._used = self._used.model_copy(
            update={"probe_count": self._used.probe_count + measured.count}
        )
        await self._decide()
        if not self._stop:
            await self._revise()

    async def _decide(self) -> None:
        self._step = "decide"
        decided = await self._run_local("decide", "evidence", "state", "measured")
        self._refs["state"] = _state(decided)
        self._decided.append(self._refs["state"])
        self._standing.append((self._round, decided.candidate, self._refs["state"]))
        self._stop = decided.stop

    async def _revise(self) -> None:
        self._step = "revise"
        revised = await self._run_step("revise_hypotheses", "evidence", "state")
        self._revised.append(_artifact(revised))
        self._refs["state"] = _state(revised)
        if not revised.count:
            # Nothing is open any more: another round would have nothing to test.
            self._stop = "NO_PROGRESS"

    # 7

    async def _synthesise(self) -> None:
        """A candidate of the last round, and of every round before it that left another
        set of supported hypotheses standing."""
        self._step = "synthesise"
        last = self._standing[-1]
        distinct = {key: (number, state) for number, key, state in self._standing if key}
        distinct.pop(last[1], None)
        rounds = sorted([*distinct.values(), (last[0], last[2])], key=lambda item: item[0])
        candidates = await asyncio.gather(
            *(self._candidate(number, state, len(rounds)) for number, state in rounds)
        )
        self._candidates = [candidate for candidate in candidates if candidate is not None]

    async def _candidate(
        self, number: int, state: ArtifactRef, rival_count: int
    ) -> ArtifactRef | None:
        """One candidate with its score on SELECT; None where a budget was spent. A judge
        is not paid for choosing from one."""
        inputs = {**self._inputs("evidence"), "state": state}
        try:
            synthesis = await self._run_call("synthesize", self._call(round=number, inputs=inputs))
        except ActivityError as error:
            self._stop_for_budget(error)
            return None
        call = self._call(
            round=number,
            inputs={**self._inputs("facts", "windows"), "synthesis": _artifact(synthesis)},
        )
        pays_judge = (
            self._plan.explainer_asks_llm
            and synthesis.has_explanation
            and not synthesis.has_pattern
            and rival_count > 1
        )
        if pays_judge:
            try:
                return _artifact(await self._run_call("judge_candidate", call))
            except ActivityError as error:
                if reason_of(error)[0] not in TOLERATED:
                    raise
        return _artifact(await self._run_local_call("evaluate_candidate", call))

    async def _choose(self) -> bool:
        """Fixes the explanation; whether it predicts anything that can be scored."""
        roles = [role for role in ("facts", "proposal", "state") if role in self._refs]
        chosen = await self._run_local_call(
            "choose_explanation",
            self._call(
                inputs=self._inputs(*roles),
                lists={"candidates": tuple(self._candidates)},
                note=self._stop or "NO_HYPOTHESIS",
            ),
        )
        self._refs["explanation"] = _artifact(chosen)
        self._has_pattern = chosen.has_pattern
        return chosen.has_explanation

    # 8

    async def _score(self, other: ArtifactRef | None) -> None:
        self._step = "score"
        self._refs["catalog"] = self._plan.methods_catalog
        windows = await self._run_step("list_score_windows", "explanation", "catalog")
        self._refs["score_windows"] = _artifact(windows)
        await asyncio.gather(
            *(self._score_method(place, other) for place in range(len(self._plan.methods)))
        )

    async def _score_method(self, place: int, other: ArtifactRef | None) -> None:
        """One method; what it cannot do becomes its own failure, not the run's."""
        try:
            self._refs[f"score.{place}"] = await self._planned_score(place, other)
        except ActivityError as error:
            reason, message = reason_of(error)
            if reason not in TOLERATED:
                raise
            self._failures[str(place)] = f"{reason}: {message}"

    async def _planned_score(self, place: int, other: ArtifactRef | None) -> ArtifactRef:
        inputs = self._inputs("facts", "explanation", "catalog", "score_windows")
        call = self._call(ordinal=place, inputs=inputs)
        planned = await self._run_call("plan_score", call)
        inputs = {**inputs, "plan_score": _artifact(planned)}
        narrow = call.model_copy(
            update={"inputs": {r: inputs[r] for r in ("explanation", "plan_score")}}
        )
        steps = {}
        if planned.count:
            steps["encoded"] = self._run_call("encode_texts", narrow)
        if planned.item_count:
            asks = self._plan.methods[place].asks_llm
            run = self._run_call if asks else self._run_local_call
            steps["judged"] = run("judge", narrow)
        for role, result in zip(steps, await asyncio.gather(*steps.values()), strict=True):
            inputs[role] = _artifact(result)
        if other is not None:
            inputs["other"] = other
        scored = await self._run_call("score", call.model_copy(update={"inputs": inputs}))
        return _artifact(scored)

    # 9

    async def _record(self) -> ExplainOutput:
        self._step = "record"
        self._refs["catalog"] = self._plan.methods_catalog
        roles = ["evidence", "explanation", "catalog"]
        roles += [role for role in ("state",) if role in self._refs]
        roles += sorted(role for role in self._refs if role.startswith("score."))
        recorded = await self._run_local_call(
            "record",
            self._call(
                inputs=self._inputs(*roles),
                lists={
                    "measured": tuple(self._measured),
                    "decided": tuple(self._decided),
                    "revised": tuple(self._revised),
                },
                failures=self._failures,
                backend=self._backend,
                retry_count=self._retry_count,
                note=workflow.info().start_time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            ),
        )
        return ExplainOutput(dossier=_artifact(recorded), digest=recorded.digest)

    # Other ends

    def _stop_for_budget(self, error: ActivityError) -> None:
        """Turns a spent budget into a reason to stop; raises any other error."""
        reason, _ = reason_of(error)
        if reason != "BUDGET_EXHAUSTED":
            raise error
        self._stop = "LLM_TOKENS_SPENT" if budget_unit(error) == "tokens" else "COST_SPENT"

    async def _end(self, *, cancelled: bool, reason: str, message: str, step: str) -> None:
        call = EndCall(
            explanation=self._plan.explanation,
            cancelled=cancelled,
            reason=reason,
            message=message[:1000],
            step=step,
        )
        await workflow.execute_local_activity("end", call, **policies.local_options("end"))

    # Calls

    def _inputs(self, *roles: str) -> dict[str, ArtifactRef]:
        return {role: self._refs[role] for role in roles}

    def _call(self, **fields: Any) -> StepCall:
        """A call with what every step gets; unset fields stay out of the history."""
        fields.setdefault("round", self._round)
        return StepCall(explanation=self._plan.explanation, plan=self._plan.plan, **fields)

    async def _run_step(self, step: str, *roles: str) -> StepResult:
        used = {"used": self._used} if step == "design_probes" else {}
        return await self._run_call(step, self._call(inputs=self._inputs(*roles), **used))

    async def _run_local(self, step: str, *roles: str) -> StepResult:
        return await self._run_local_call(
            step, self._call(inputs=self._inputs(*roles), used=self._used)
        )

    async def _run_call(self, step: str, call: StepCall) -> StepResult:
        """A step on its queue, by the policy of its name."""
        result = await workflow.execute_activity(
            step, call, result_type=StepResult, **policies.options(step)
        )
        return self._noted(result)

    async def _run_local_call(self, step: str, call: StepCall) -> StepResult:
        """A step of our own code, beside the workflow."""
        result = await workflow.execute_local_activity(
            step, call, result_type=StepResult, **policies.local_options(step)
        )
        return self._noted(result)

    def _noted(self, result: StepResult) -> StepResult:
        self._used = self._used.model_copy(
            update={
                "llm_token_count": self._used.llm_token_count + result.llm_token_count,
                "cost": self._used.cost + result.cost,
            }
        )
        self._retry_count += result.attempt - 1
        self._backend = result.backend or self._backend
        return result


def _artifact(result: StepResult) -> ArtifactRef:
    if result.artifact is None:
        raise ApplicationError("a step stored nothing", type="STATE_CONFLICT", non_retryable=True)
    return result.artifact


def _state(result: StepResult) -> ArtifactRef:
    if result.state is None:
        raise ApplicationError("a step left no state", type="STATE_CONFLICT", non_retryable=True)
    return result.state
