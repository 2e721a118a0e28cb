"""The durable run of one explanation.

    1 gather      facts, exemplars, vocabulary, neighbours (EXPLAIN; SELECT is set aside)
    2 propose     hypotheses, unless the explainer makes none
    3 design      probes                        ┐
    4 measure     one batched encode            │ a round, until all is decided,
    5 decide      verdicts; stop?               │ nothing moves or a budget is spent
    6 revise      hypotheses, from failures     ┘
    7 synthesise  candidates (`candidates.py`); the one that does best on SELECT is chosen
                  and its digest fixed
    8 score       per method, on HELDOUT, read once (`scoring.py`)
    9 record      dossier, run record, the end of the row

The plan's `LoopPolicy`, which the explainer declared, says which of these there are; no
explainer is known by name here. A restart loses nothing but calls in flight: every step's
result is an artifact, and the history holds their references. A spent budget of tokens or
money ends the loop or a score, not the run. Any other error that outlives its retries fails
the run with its reason.
"""

from __future__ import annotations

import asyncio
from datetime import UTC
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from services.orchestrator.records import ArtifactRef, ExplainInput, ExplainOutput
    from services.orchestrator.workflows import candidates
    from services.orchestrator.workflows.candidates import Standing
    from services.orchestrator.workflows.ending import write_down
    from services.orchestrator.workflows.scoring import explain_other, score_methods
    from services.orchestrator.workflows.steps import Steps, artifact_of, budget_stop, state_of

WITHOUT_A_CALL = frozenset({"ROUNDS_SPENT", "PROBES_SPENT"})
"""Spent budgets that still allow a revision."""


@workflow.defn(name="ExplainFeature")
class ExplainFeature:
    """One explanation."""

    @workflow.init
    def __init__(self, plan: ExplainInput) -> None:
        self._plan = plan
        self._steps = Steps(plan)
        self._step = "gather"
        self._stop = ""
        # Artifacts that there are once per round.
        self._measured: list[ArtifactRef] = []
        self._decided: list[ArtifactRef] = []
        self._revised: list[ArtifactRef] = []
        self._standing: list[Standing] = []

    @workflow.run
    async def run(self, plan: ExplainInput) -> ExplainOutput:
        """Runs the nine steps; writes down the end, whatever it is."""
        try:
            return await self._explain()
        except BaseException as error:
            await write_down(plan.explanation, error, self._step)
            raise

    @workflow.query
    def progress(self) -> dict[str, Any]:
        """Where the run stands: step, round and what it has spent."""
        return {"step": self._step, "round": self._steps.round, **self._steps.used.model_dump()}

    async def _explain(self) -> ExplainOutput:
        has_evidence = await self._gather()
        other = asyncio.create_task(explain_other(self._steps, self._other_feature))
        try:
            if has_evidence:
                await self._candidates()
            failures: dict[str, str] = {}
            if await self._choose():
                self._step = "score"
                failures = await score_methods(self._steps, await other)
            return await self._record(failures)
        finally:
            other.cancel()

    # 1

    async def _gather(self) -> bool:
        """Whether the feature fires in the EXPLAIN split."""
        steps = self._steps
        facts, windows = await asyncio.gather(steps.run("get_feature"), steps.run("list_exemplars"))
        steps.refs["facts"] = artifact_of(facts)
        steps.refs["windows"] = artifact_of(windows)
        self._other_feature = facts.other_feature
        neighbors = await steps.run("list_token_neighbors", "facts", "windows")
        steps.refs["evidence"] = artifact_of(neighbors)
        return facts.count > 0

    # 2 to 7

    async def _candidates(self) -> None:
        """Explanations that compete, by the way that the policy says."""
        if self._plan.loop.hypothesis_count:
            if not await self._propose():
                return
            await self._rounds()
            self._step = "synthesise"
            written = await candidates.of_rounds(self._steps, self._standing)
        else:
            self._step = "synthesise"
            written = await candidates.independent(self._steps)
        self._stop = written.stop or self._stop
        if written.fragment is not None:
            self._steps.refs["candidates"] = written.fragment

    async def _propose(self) -> bool:
        """Whether there is something to test."""
        self._step = "propose"
        steps = self._steps
        try:
            proposed = await steps.run("propose_hypotheses", "evidence")
        except ActivityError as error:
            self._stop = budget_stop(error)
            return False
        steps.refs["proposal"] = artifact_of(proposed)
        steps.refs["state"] = state_of(proposed)
        steps.spend(synthesis_token_count=proposed.llm_token_count)
        return proposed.count > 0

    async def _rounds(self) -> None:
        """Rounds until there is a reason to stop."""
        steps = self._steps
        while not self._stop:
            steps.round += 1
            before = steps.used.llm_token_count
            try:
                await self._one_round()
            except ActivityError as error:
                self._stop = budget_stop(error)
            steps.spend(last_round_token_count=steps.used.llm_token_count - before)
        if not self._standing:
            self._standing.append(Standing(steps.round, "", steps.refs["state"]))

    async def _one_round(self) -> None:
        self._step = "design"
        steps = self._steps
        design = await steps.run("design_probes", "evidence", "state")
        if not design.count:
            self._stop = "NO_PROGRESS"
            return
        steps.refs["design"] = artifact_of(design)
        self._step = "measure"
        measured = await steps.run("encode_probes", "evidence", "design")
        steps.refs["measured"] = artifact_of(measured)
        self._measured.append(steps.refs["measured"])
        steps.spend(probe_count=steps.used.probe_count + measured.count)
        await self._decide()
        last = self._plan.loop.revises_last_round and self._stop in WITHOUT_A_CALL
        if not self._stop or last:
            await self._revise()

    async def _decide(self) -> None:
        self._step = "decide"
        decided = await self._steps.run_local("decide", "evidence", "state", "measured")
        self._steps.refs["state"] = state_of(decided)
        self._decided.append(state_of(decided))
        self._standing.append(Standing(self._steps.round, decided.candidate, state_of(decided)))
        self._stop = decided.stop

    async def _revise(self) -> None:
        self._step = "revise"
        revised = await self._steps.run("revise_hypotheses", "evidence", "state")
        self._revised.append(artifact_of(revised))
        self._steps.refs["state"] = state_of(revised)
        if self._plan.loop.revises_last_round:
            # What such an explainer concludes from is the revised list.
            entry = Standing(self._steps.round, revised.candidate, state_of(revised))
            self._standing[-1] = entry
        self._stop = revised.stop or self._stop

    async def _choose(self) -> bool:
        """Fixes the explanation; whether it predicts anything that can be scored."""
        steps = self._steps
        chosen = await steps.run_local_call(
            "choose_explanation",
            steps.call(
                inputs=steps.inputs("facts", "proposal", "state", "candidates"),
                note=self._stop or "NO_HYPOTHESIS",
            ),
        )
        steps.refs["explanation"] = artifact_of(chosen)
        return chosen.has_explanation

    # 9

    async def _record(self, failures: dict[str, str]) -> ExplainOutput:
        self._step = "record"
        steps = self._steps
        steps.refs["catalog"] = self._plan.methods_catalog
        scores = sorted(role for role in steps.refs if role.startswith("score."))
        recorded = await steps.run_local_call(
            "record",
            steps.call(
                inputs=steps.inputs("evidence", "explanation", "catalog", "state", *scores),
                lists={
                    "measured": tuple(self._measured),
                    "decided": tuple(self._decided),
                    "revised": tuple(self._revised),
                },
                failures=failures,
                backend=steps.backend,
                retry_count=steps.retry_count,
                note=workflow.info().start_time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            ),
        )
        return ExplainOutput(dossier=artifact_of(recorded), digest=recorded.digest)
