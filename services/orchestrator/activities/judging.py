"""Judging: items in chunks, by a language model or by the explanation's pattern.

All chunks of one method are one activity, so that a run's history does not grow with
the number of windows; every chunk is stored as soon as it is there, so that a repeat asks
for the missing ones only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from temporalio import activity

from saexplain.common.v1 import explanation_pb2, usage_pb2
from saexplain.explanation.v1 import dossier_pb2
from saexplain.scorer.v1 import scorer_pb2
from services.common.errors import Aborted
from services.orchestrator import budgets
from services.orchestrator.activities.calls import unary
from services.orchestrator.activities.workspace import (
    Workspace,
    attempt,
    check_size,
    scope,
)
from services.orchestrator.activity_shell import ATTEMPTS_BY_REASON
from services.orchestrator.policies import JUDGE_CHUNK, JUDGES_AT_ONCE
from services.orchestrator.records import StepCall, StepResult


class JudgingActivities:
    """Calls of the scorer's judge."""

    def __init__(self, work: Workspace) -> None:
        self._work = work

    @activity.defn(name="judge")
    async def judge(self, call: StepCall) -> StepResult:
        """Judge, chunk by chunk: stores the predictions of one method."""
        plan = await self._work.plan(call)
        options = plan.methods[call.ordinal]
        planned = await self._work.load(call.inputs["plan_score"], scorer_pb2.PlanScoreResponse)
        fragment = await self._work.load(call.inputs["explanation"], dossier_pb2.Dossier)

        async def compute() -> scorer_pb2.JudgeResponse:
            return await self.in_chunks(
                call, "judge", options, fragment.explanation, planned.judge_items
            )

        response, ref = await self._work.keep(call, "judge", scorer_pb2.JudgeResponse, compute)
        failed = _failed_count(response.predictions)
        await self._work.note(
            call,
            "judge",
            f"{len(response.predictions)} items judged, {failed} without an answer.",
            usage=response.usage,
            label=f"judge.{options.method}",
        )
        return StepResult(
            artifact=ref,
            count=len(response.predictions),
            llm_token_count=budgets.token_count(response.usage),
            cost=response.usage.cost,
            attempt=attempt(),
        )

    async def in_chunks(
        self,
        call: StepCall,
        step: str,
        options: scorer_pb2.MethodOptions,
        explanation: explanation_pb2.Explanation,
        items: Sequence[scorer_pb2.JudgeItem],
    ) -> scorer_pb2.JudgeResponse:
        """All chunks, a few at a time. The first error ends it, once the calls in flight
        are there; their replies are kept."""
        at_once = asyncio.Semaphore(JUDGES_AT_ONCE)

        async def one(number: int) -> scorer_pb2.JudgeResponse:
            async with at_once:
                chunk = items[number * JUDGE_CHUNK : (number + 1) * JUDGE_CHUNK]
                return await self._chunk(call, step, number, options, explanation, chunk)

        numbers = range(-(-len(items) // JUDGE_CHUNK))
        answers = await asyncio.gather(*(one(n) for n in numbers), return_exceptions=True)
        merged = scorer_pb2.JudgeResponse()
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            merged.predictions.extend(answer.predictions)
            budgets.add_usage(merged.usage, answer.usage)
        return merged

    async def _chunk(
        self,
        call: StepCall,
        step: str,
        number: int,
        options: scorer_pb2.MethodOptions,
        explanation: explanation_pb2.Explanation,
        items: Sequence[scorer_pb2.JudgeItem],
    ) -> scorer_pb2.JudgeResponse:
        part = call.model_copy(update={"chunk": number})

        async def compute() -> scorer_pb2.JudgeResponse:
            request = scorer_pb2.JudgeRequest(
                options=options,
                scope=_judge_scope(part, step, options),
                explanation=explanation,
                items=items,
            )
            check_size(request, "a chunk of judging")
            try:
                return await unary(self._work.services.scorer.Judge, request)
            except Aborted as error:
                return _unanswered(items, error)

        response, _ = await self._work.keep(
            part, f"{step}.chunk", scorer_pb2.JudgeResponse, compute
        )
        return response


def _unanswered(items: Sequence[scorer_pb2.JudgeItem], error: Aborted) -> scorer_pb2.JudgeResponse:
    """FAILED for every item of a chunk whose reply stays unusable: neither wrong nor zero.

    Raises:
        Aborted: the error itself, while another attempt is due.
    """
    if attempt() < ATTEMPTS_BY_REASON.get(error.reason, 1):
        raise error
    failed = scorer_pb2.PREDICTION_STATUS_FAILED
    return scorer_pb2.JudgeResponse(
        predictions=[scorer_pb2.Prediction(item_id=item.id, status=failed) for item in items]
    )


def _failed_count(predictions: Sequence[scorer_pb2.Prediction]) -> int:
    return sum(p.status == scorer_pb2.PREDICTION_STATUS_FAILED for p in predictions)


def _judge_scope(
    call: StepCall, step: str, options: scorer_pb2.MethodOptions
) -> usage_pb2.JournalScope:
    return scope(call, f"score.{options.method}.judge" if step == "judge" else step)
