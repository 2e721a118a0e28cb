"""Step 7 as far as candidates compete: each gets its corpus F1 on SELECT, by its pattern or,
where it has none and there is something to choose, by a judge that asks a language model.

All candidates are one activity: a run's history does not grow with their number.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from temporalio import activity

from saexplain.activation.v1 import activation_pb2
from saexplain.agent.v1 import agent_pb2
from saexplain.common.v1 import feature_pb2, usage_pb2, window_pb2
from saexplain.explanation.v1 import dossier_pb2
from saexplain.scorer.v1 import scorer_pb2
from services.common.errors import ResourceExhausted
from services.orchestrator import budgets, evidence, selecting
from services.orchestrator.activities.judging import JudgingActivities
from services.orchestrator.activities.workspace import Workspace, attempt
from services.orchestrator.records import StepCall, StepResult
from services.orchestrator.selecting import Weighed


@dataclass(frozen=True)
class _Select:
    """What candidates are compared on."""

    plan: dossier_pb2.Plan
    facts: feature_pb2.FeatureFacts
    lists: list[activation_pb2.WindowList]

    def f1(self, windows: Sequence[Weighed], predicted: dict[str, float]) -> float | None:
        share = self.plan.thresholds.active_share
        return selecting.corpus_f1(windows, predicted, self.facts.reference_max, share)


class ChoosingActivities:
    """The comparison of candidates."""

    def __init__(self, work: Workspace, judging: JudgingActivities) -> None:
        self._work = work
        self._judging = judging

    @activity.defn(name="compare_candidates")
    async def compare_candidates(self, call: StepCall) -> StepResult:
        """Stores a fragment of the dossier with all candidates and their scores. One
        without a pattern that has no rival, or whose judge the budget does not allow, is
        kept without a score."""
        select = await self._select(call)
        syntheses = [
            await self._work.load(ref, agent_pb2.SynthesizeResponse)
            for ref in call.lists["syntheses"]
        ]
        usage = usage_pb2.LlmUsage()

        async def compute() -> dossier_pb2.Dossier:
            pays = sum(s.explanation.status in selecting.SCORABLE for s in syntheses) > 1
            scored = await asyncio.gather(
                *(
                    self._score(call.model_copy(update={"ordinal": place}), select, entry, pays)
                    for place, entry in enumerate(syntheses)
                )
            )
            fragment = dossier_pb2.Dossier()
            for number, synthesis, (value, spent) in zip(
                call.numbers, syntheses, scored, strict=True
            ):
                candidate = fragment.candidates.add(round=number, explanation=synthesis.explanation)
                if value is not None:
                    candidate.select_score = value
                budgets.add_usage(usage, spent)
            return fragment

        fragment, ref = await self._work.keep(
            call, "compare_candidates", dossier_pb2.Dossier, compute
        )
        await self._work.note(
            call, "compare_candidates", f"{len(fragment.candidates)} candidates.", usage=usage
        )
        return StepResult(
            artifact=ref,
            llm_token_count=budgets.token_count(usage),
            cost=usage.cost,
            attempt=attempt(),
        )

    async def _select(self, call: StepCall) -> _Select:
        response = await self._work.load(
            call.inputs["windows"], activation_pb2.ListExemplarsResponse
        )
        return _Select(
            await self._work.plan(call),
            await self._work.load(call.inputs["facts"], feature_pb2.FeatureFacts),
            evidence.of_split(response.lists, window_pb2.SPLIT_SELECT),
        )

    async def _score(
        self, call: StepCall, select: _Select, synthesis: agent_pb2.SynthesizeResponse, pays: bool
    ) -> tuple[float | None, usage_pb2.LlmUsage]:
        explanation = synthesis.explanation
        if explanation.status not in selecting.SCORABLE:
            return None, usage_pb2.LlmUsage()
        if explanation.HasField("pattern"):
            windows = selecting.all_windows(select.lists)
            predicted = selecting.predicted_by_pattern(explanation.pattern, windows)
            return select.f1(windows, predicted), usage_pb2.LlmUsage()
        if not (pays and select.plan.explainer.HasField("llm")):
            return None, usage_pb2.LlmUsage()
        windows = selecting.judged_windows(select.lists, select.plan.seed)
        try:
            judged = await self._judging.in_chunks(
                call,
                "judge_candidate",
                _corpus_by_llm(select.plan),
                explanation,
                selecting.judge_items(windows),
            )
        except ResourceExhausted as error:
            if error.reason != "BUDGET_EXHAUSTED":
                raise
            return None, usage_pb2.LlmUsage()
        return select.f1(windows, selecting.predicted_by_judge(judged.predictions)), judged.usage


def _corpus_by_llm(plan: dossier_pb2.Plan) -> scorer_pb2.MethodOptions:
    """The corpus method with the explainer's model: as the plan has it, if it has."""
    for options in plan.methods:
        if options.method == "corpus" and options.judge == "llm":
            return options
    return scorer_pb2.MethodOptions(
        method="corpus", judge="llm", seed=plan.seed, llm=plan.explainer.llm
    )
