"""Step 8, score: per method the scorer plans, activation measures, the scorer scores."""

from __future__ import annotations

from temporalio import activity

from saexplain.activation.v1 import activation_pb2
from saexplain.agent.v1 import agent_pb2
from saexplain.common.v1 import feature_pb2, window_pb2
from saexplain.explanation.v1 import dossier_pb2
from saexplain.scorer.v1 import scorer_pb2
from services.common.canonical import digest
from services.common.errors import FailedPrecondition
from services.common.names import parse_feature
from services.orchestrator import budgets, evidence
from services.orchestrator.activities.calls import encode, unary
from services.orchestrator.activities.workspace import Workspace, attempt, check_size, scope
from services.orchestrator.records import StepCall, StepResult

_READABLE = frozenset({window_pb2.SPLIT_EXPLAIN, window_pb2.SPLIT_HELDOUT})


class ScoringActivities:
    """Windows, plans, measurements and scores of the methods."""

    def __init__(self, work: Workspace) -> None:
        self._work = work

    @activity.defn(name="list_score_windows")
    async def list_score_windows(self, call: StepCall) -> StepResult:
        """ListExemplars for all methods at once: the only read of HELDOUT in a run.

        Raises:
            FailedPrecondition: the explanation is not the one whose digest was fixed
                (STATE_CONFLICT).
        """
        plan = await self._work.plan(call)
        fixed = await self._work.load(call.inputs["explanation"], dossier_pb2.Dossier)
        if digest(fixed.explanation) != fixed.explanation_digest:
            raise FailedPrecondition("the explanation is not the one that was fixed")
        catalog = await self._work.load(call.inputs["catalog"], scorer_pb2.ListMethodsResponse)

        async def compute() -> activation_pb2.ListExemplarsResponse:
            request = activation_pb2.ListExemplarsRequest(
                feature=plan.feature,
                index=plan.index,
                selections=needed_selections(plan, catalog),
                left_context_token_count=evidence.LEFT_CONTEXT_TOKENS,
                seed=plan.seed,
            )
            if not request.selections:
                return activation_pb2.ListExemplarsResponse()
            return await unary(self._work.services.activation.ListExemplars, request)

        response, ref = await self._work.keep(
            call, "list_score_windows", activation_pb2.ListExemplarsResponse, compute
        )
        evidence.check_split(response.lists, _READABLE)
        count = sum(len(windows.windows) for windows in response.lists)
        await self._work.note(call, "list_score_windows", f"{count} windows.", label="score")
        return StepResult(artifact=ref, count=count, attempt=attempt())

    @activity.defn(name="plan_score")
    async def plan_score(self, call: StepCall) -> StepResult:
        """PlanScore of one method: stores texts to measure and items to judge."""
        plan = await self._work.plan(call)
        options = plan.methods[call.ordinal]

        async def compute() -> scorer_pb2.PlanScoreResponse:
            request = scorer_pb2.PlanScoreRequest(
                options=options,
                scope=scope(call, f"score.{options.method}.write"),
                explanation=(await self._fixed(call)).explanation,
                windows=await self._windows(call, options.method),
                facts=await self._work.load(call.inputs["facts"], feature_pb2.FeatureFacts),
            )
            await self._add_other(call, request)
            check_size(request, f"the plan of {options.method}")
            return await unary(self._work.services.scorer.PlanScore, request)

        response, ref = await self._work.keep(
            call, "plan_score", scorer_pb2.PlanScoreResponse, compute
        )
        await self._work.note(
            call,
            "plan_score",
            f"{len(response.texts)} texts, {len(response.judge_items)} items to judge.",
            usage=response.usage,
            label=f"plan_score.{options.method}",
        )
        return StepResult(
            artifact=ref,
            count=len(response.texts),
            item_count=len(response.judge_items),
            llm_token_count=budgets.token_count(response.usage),
            cost=response.usage.cost,
            attempt=attempt(),
        )

    @activity.defn(name="encode_texts")
    async def encode_texts(self, call: StepCall) -> StepResult:
        """Encode of the texts that one method had written."""
        plan = await self._work.plan(call)
        planned = await self._work.load(call.inputs["plan_score"], scorer_pb2.PlanScoreResponse)

        async def compute() -> activation_pb2.EncodeResponse:
            texts = [activation_pb2.TextInput(text=written.text) for written in planned.texts]
            index = parse_feature(plan.feature, "feature").index
            encoded, backend = await encode(self._work.services, plan.sae.name, texts, [index])
            response = activation_pb2.EncodeResponse(backend=backend)
            for text_index, text in sorted(encoded.items()):
                response.texts.append(text)
                response.texts[-1].text_index = text_index
            return response

        response, ref = await self._work.keep(
            call, "encode_texts", activation_pb2.EncodeResponse, compute
        )
        return StepResult(
            artifact=ref, count=len(response.texts), backend=response.backend, attempt=attempt()
        )

    @activity.defn(name="score")
    async def score(self, call: StepCall) -> StepResult:
        """Score of one method: stores its result with the method's whole cost."""
        plan = await self._work.plan(call)
        options = plan.methods[call.ordinal]

        async def compute() -> scorer_pb2.ScoreResponse:
            request = await self._score_request(call, options)
            check_size(request, f"the evidence of {options.method}")
            response: scorer_pb2.ScoreResponse = await unary(
                self._work.services.scorer.Score, request
            )
            await self._add_cost(call, response)
            return response

        response, ref = await self._work.keep(call, "score", scorer_pb2.ScoreResponse, compute)
        await self._work.note(call, "score", _headline(response), label=f"score.{options.method}")
        return StepResult(artifact=ref, attempt=attempt())

    async def _score_request(
        self, call: StepCall, options: scorer_pb2.MethodOptions
    ) -> scorer_pb2.ScoreRequest:
        planned = await self._work.load(call.inputs["plan_score"], scorer_pb2.PlanScoreResponse)
        request = scorer_pb2.ScoreRequest(
            options=options,
            explanation=(await self._fixed(call)).explanation,
            facts=await self._work.load(call.inputs["facts"], feature_pb2.FeatureFacts),
            windows=await self._windows(call, options.method),
            texts=planned.texts,
        )
        if "encoded" in call.inputs:
            encoded = await self._work.load(call.inputs["encoded"], activation_pb2.EncodeResponse)
            request.encoded_texts.extend(encoded.texts)
        if "judged" in call.inputs:
            judged = await self._work.load(call.inputs["judged"], scorer_pb2.JudgeResponse)
            request.predictions.extend(judged.predictions)
        await self._add_other(call, request)
        return request

    async def _add_other(
        self, call: StepCall, request: scorer_pb2.PlanScoreRequest | scorer_pb2.ScoreRequest
    ) -> None:
        """The other feature's pattern, where there is one: the same for plan and score, since
        methods that write texts write some from it too."""
        if "other" in call.inputs:
            other = await self._work.load(call.inputs["other"], agent_pb2.ProposeHypothesesResponse)
            patterns = [h.pattern for h in other.hypotheses if h.HasField("pattern")]
            request.other_feature_pattern.CopyFrom(patterns[0])

    async def _add_cost(self, call: StepCall, response: scorer_pb2.ScoreResponse) -> None:
        planned = await self._work.load(call.inputs["plan_score"], scorer_pb2.PlanScoreResponse)
        response.result.usage.CopyFrom(planned.usage)
        if "judged" in call.inputs:
            judged = await self._work.load(call.inputs["judged"], scorer_pb2.JudgeResponse)
            budgets.add_usage(response.result.usage, judged.usage)

    async def _fixed(self, call: StepCall) -> dossier_pb2.Dossier:
        return await self._work.load(call.inputs["explanation"], dossier_pb2.Dossier)

    async def _windows(self, call: StepCall, method: str) -> list[activation_pb2.WindowList]:
        catalog = await self._work.load(call.inputs["catalog"], scorer_pb2.ListMethodsResponse)
        response = await self._work.load(
            call.inputs["score_windows"], activation_pb2.ListExemplarsResponse
        )
        wanted = selections_of(catalog, method)
        return [windows for windows in response.lists if windows.selection in wanted]


def selections_of(
    catalog: scorer_pb2.ListMethodsResponse, method: str
) -> list[window_pb2.WindowSelection]:
    """The windows that a method needs."""
    return [
        selection
        for entry in catalog.methods
        if entry.name == method
        for selection in entry.selections
    ]


def needed_selections(
    plan: dossier_pb2.Plan, catalog: scorer_pb2.ListMethodsResponse
) -> list[window_pb2.WindowSelection]:
    """The windows that the plan's methods need together, each selection once."""
    needed: list[window_pb2.WindowSelection] = []
    for options in plan.methods:
        for selection in selections_of(catalog, options.method):
            if selection not in needed:
                needed.append(selection)
    return needed


def _headline(response: scorer_pb2.ScoreResponse) -> str:
    if not response.result.scores:
        return "No score."
    primary = response.result.scores[0]
    if not primary.HasField("value"):
        return f"{primary.metric} is undefined: {primary.status_reason}"
    return f"{primary.metric} {primary.value:.3f}"
