"""The public `ExplanationService`: reads and writes rows, starts and cancels workflows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import grpc

from saexplain.activation.v1 import activation_pb2
from saexplain.explanation.v1 import dossier_pb2, explanation_pb2, explanation_pb2_grpc
from services.common import names
from services.common.artifacts import ArtifactRef, ArtifactStore
from services.common.canonical import digest
from services.common.errors import FailedPrecondition, InvalidArgument
from services.common.grpc_client import rpc_errors
from services.orchestrator import scoring_plan
from services.orchestrator.clients import Services
from services.orchestrator.plan import RPC_SECONDS, Frozen, Planner, explanation_id
from services.orchestrator.records import ExplainInput, LoopPlan, MethodPlan
from services.orchestrator.resources import to_explanation, to_index
from services.orchestrator.starting import Starter, build_id, build_input, workflow_input
from services.orchestrator.store import pages
from services.orchestrator.store.explanations import ENDED, ExplanationStore, NewExplanation
from services.orchestrator.store.indexes import IndexStore
from services.orchestrator.store.journal import JournalStore
from services.orchestrator.watch import Notifications

CHUNK_BYTES = 2**20
"""Largest part of a dossier in one message."""


@dataclass(frozen=True)
class ApiParts:
    """Collaborators of the API."""

    services: Services
    planner: Planner
    explanations: ExplanationStore
    indexes: IndexStore
    journal: JournalStore
    artifacts: ArtifactStore
    starter: Starter
    notifications: Notifications
    now: Callable[[], datetime]
    watch_poll_seconds: float


class ExplanationApi(explanation_pb2_grpc.ExplanationServiceServicer):
    """The servicer. Errors are ours; the server's interceptor turns them into statuses."""

    def __init__(self, parts: ApiParts) -> None:
        self._parts = parts

    async def CreateExplanation(  # noqa: N802 (gRPC's name)
        self,
        request: explanation_pb2.CreateExplanationRequest,
        context: grpc.aio.ServicerContext,
    ) -> explanation_pb2.CreateExplanationResponse:
        """See the proto."""
        names.parse_project(request.parent, "parent")
        request_id = names.check_request_id(request.request_id)
        store = self._parts.explanations
        row = await store.find_request(request.parent, request_id, digest(request))
        if row is None:
            new = await self._stored(request, await self._parts.planner.freeze(request))
            row, _ = await store.create(new, self._parts.now())
        if row["state"] == explanation_pb2.RUN_STATE_PENDING:
            # Also for a found row: the one that made it may have died before the start.
            await self._parts.starter.start_explanation(workflow_input(row))
        return explanation_pb2.CreateExplanationResponse(explanation=to_explanation(row))

    async def GetExplanation(  # noqa: N802
        self, request: explanation_pb2.GetExplanationRequest, context: grpc.aio.ServicerContext
    ) -> explanation_pb2.GetExplanationResponse:
        """See the proto."""
        row = await self._parts.explanations.get(request.name)
        return explanation_pb2.GetExplanationResponse(explanation=to_explanation(row))

    async def ListExplanations(  # noqa: N802
        self, request: explanation_pb2.ListExplanationsRequest, context: grpc.aio.ServicerContext
    ) -> explanation_pb2.ListExplanationsResponse:
        """See the proto."""
        names.parse_project(request.parent, "parent")
        if request.sae:
            names.parse_sae(request.sae, "sae")
        size = pages.page_size(request.page_size)
        if request.scored_explanation:
            names.parse_explanation(request.scored_explanation, "scored_explanation")
        filters = (request.sae, str(request.state), request.scored_explanation)
        question = ("explanations", request.parent, *filters)
        after = pages.decode_token(request.page_token, question)
        rows = await self._parts.explanations.page(
            request.parent,
            request.sae,
            request.state,
            after,
            size + 1,
            request.scored_explanation,
        )
        response = explanation_pb2.ListExplanationsResponse(
            explanations=[to_explanation(row, with_plan=False) for row in rows[:size]]
        )
        if len(rows) > size:
            last = pages.Cursor(rows[size - 1]["create_time"], rows[size - 1]["id"])
            response.next_page_token = pages.encode_token(last, question)
        return response

    async def WatchExplanation(  # noqa: N802
        self, request: explanation_pb2.WatchExplanationRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[explanation_pb2.WatchExplanationResponse]:
        """See the proto."""
        if request.after_sequence < 0:
            raise InvalidArgument("must be >= 0", "after_sequence")
        store = self._parts.explanations
        await store.get(request.name)
        sequence = request.after_sequence
        async with self._parts.notifications.subscription(request.name) as news:
            while True:
                news.clear()
                # Asked before the events: what ended before has all its events in them.
                ended = (await store.get(request.name))["state"] in ENDED
                events = await store.events(request.name, sequence)
                for event in events:
                    sequence = event.sequence
                    yield explanation_pb2.WatchExplanationResponse(event=event)
                if ended and not events:
                    return
                if not events:
                    await _wait(news, self._parts.watch_poll_seconds)

    async def CancelExplanation(  # noqa: N802
        self, request: explanation_pb2.CancelExplanationRequest, context: grpc.aio.ServicerContext
    ) -> explanation_pb2.CancelExplanationResponse:
        """See the proto."""
        store = self._parts.explanations
        row = await store.get(request.name)
        if row["state"] not in ENDED:
            # Started first, so that there is something to cancel and a single place where
            # a run ends: the workflow.
            await self._parts.starter.start_explanation(workflow_input(row))
            await self._parts.journal.cancel(request.name)
            await self._parts.starter.cancel(request.name)
            row = await store.get(request.name)
        return explanation_pb2.CancelExplanationResponse(explanation=to_explanation(row))

    async def GetDossier(  # noqa: N802
        self, request: explanation_pb2.GetDossierRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[explanation_pb2.GetDossierResponse]:
        """See the proto."""
        row = await self._parts.explanations.get(request.name)
        if row["dossier"] is None or row["run_record"] is None:
            state = explanation_pb2.RunState.Name(row["state"]).removeprefix("RUN_STATE_")
            raise FailedPrecondition(f"{request.name} is {state} and has no dossier")
        load = self._parts.artifacts.get
        bundle = explanation_pb2.DossierBundle(
            dossier=dossier_pb2.Dossier.FromString(
                await load(ArtifactRef.model_validate(row["dossier"]))
            ),
            run=dossier_pb2.RunRecord.FromString(
                await load(ArtifactRef.model_validate(row["run_record"]))
            ),
        )
        data = bundle.SerializeToString(deterministic=True)
        for begin in range(0, len(data), CHUNK_BYTES):
            yield explanation_pb2.GetDossierResponse(chunk=data[begin : begin + CHUNK_BYTES])

    async def ScoreExplanation(  # noqa: N802
        self, request: explanation_pb2.ScoreExplanationRequest, context: grpc.aio.ServicerContext
    ) -> explanation_pb2.ScoreExplanationResponse:
        """See the proto."""
        names.parse_project(request.parent, "parent")
        request_id = names.check_request_id(request.request_id)
        store = self._parts.explanations
        row = await store.find_request(request.parent, request_id, digest(request))
        if row is None:
            subject = await self._subject(request)
            frozen, fixed = await scoring_plan.freeze(self._parts.planner, request, subject)
            new = await self._stored(request, frozen, fixed)
            row, _ = await store.create(new, self._parts.now())
        if row["state"] == explanation_pb2.RUN_STATE_PENDING:
            await self._parts.starter.start_explanation(workflow_input(row))
        return explanation_pb2.ScoreExplanationResponse(explanation=to_explanation(row))

    async def ListFeatures(  # noqa: N802
        self, request: explanation_pb2.ListFeaturesRequest, context: grpc.aio.ServicerContext
    ) -> explanation_pb2.ListFeaturesResponse:
        """See the proto."""
        asked = activation_pb2.ListFeaturesRequest(
            sae=request.sae,
            index=request.index,
            page_size=request.page_size,
            page_token=request.page_token,
            strata=request.strata,
        )
        async with rpc_errors():
            listed = await self._parts.services.activation.ListFeatures(asked, timeout=RPC_SECONDS)
        return explanation_pb2.ListFeaturesResponse(
            features=listed.features,
            next_page_token=listed.next_page_token,
            total_count=listed.total_count,
        )

    async def CreateIndex(  # noqa: N802
        self, request: explanation_pb2.CreateIndexRequest, context: grpc.aio.ServicerContext
    ) -> explanation_pb2.CreateIndexResponse:
        """See the proto."""
        names.parse_project(request.parent, "parent")
        names.parse_sae(request.config.sae, "config.sae")
        if not request.config.corpus:
            raise InvalidArgument("a corpus is needed", "config.corpus")
        if request.request_id:
            names.check_request_id(request.request_id)
        row = await self._parts.indexes.create(
            request.parent, _index_id(request), request.config, self._parts.now()
        )
        if row["state"] == explanation_pb2.RUN_STATE_PENDING:
            await self._parts.starter.start_index(build_input(row), build_id(row))
        return explanation_pb2.CreateIndexResponse(index=to_index(row))

    async def GetIndex(  # noqa: N802
        self, request: explanation_pb2.GetIndexRequest, context: grpc.aio.ServicerContext
    ) -> explanation_pb2.GetIndexResponse:
        """See the proto."""
        row = await self._parts.indexes.get(request.name)
        return explanation_pb2.GetIndexResponse(index=to_index(row))

    async def ListIndexes(  # noqa: N802
        self, request: explanation_pb2.ListIndexesRequest, context: grpc.aio.ServicerContext
    ) -> explanation_pb2.ListIndexesResponse:
        """See the proto."""
        names.parse_project(request.parent, "parent")
        size = pages.page_size(request.page_size)
        question = ("indexes", request.parent)
        after = pages.decode_token(request.page_token, question)
        rows = await self._parts.indexes.page(request.parent, after, size + 1)
        response = explanation_pb2.ListIndexesResponse(
            indexes=[to_index(row) for row in rows[:size]]
        )
        if len(rows) > size:
            last = pages.Cursor(rows[size - 1]["create_time"], rows[size - 1]["id"])
            response.next_page_token = pages.encode_token(last, question)
        return response

    async def CancelIndex(  # noqa: N802
        self, request: explanation_pb2.CancelIndexRequest, context: grpc.aio.ServicerContext
    ) -> explanation_pb2.CancelIndexResponse:
        """See the proto."""
        row = await self._parts.indexes.get(request.name)
        if row["state"] not in ENDED:
            await self._parts.starter.start_index(build_input(row), build_id(row))
            await self._parts.starter.cancel(build_id(row))
            row = await self._parts.indexes.get(request.name)
        return explanation_pb2.CancelIndexResponse(index=to_index(row))

    async def _subject(
        self, request: explanation_pb2.ScoreExplanationRequest
    ) -> scoring_plan.Subject:
        """What a request wants scored."""
        subject = request.WhichOneof("subject")
        if subject == "given":
            return scoring_plan.given(request.given)
        if subject is None:
            raise InvalidArgument("is needed, or `given`", "explanation")
        project, _ = names.parse_explanation(request.explanation, "explanation")
        if project != request.parent:
            raise InvalidArgument(f"is not of {request.parent}", "explanation")
        return scoring_plan.stored(await self._parts.explanations.get(request.explanation))

    async def _stored(
        self,
        request: explanation_pb2.CreateExplanationRequest | explanation_pb2.ScoreExplanationRequest,
        frozen: Frozen,
        fixed: dossier_pb2.Dossier | None = None,
    ) -> NewExplanation:
        """Stores a plan's artifacts and its budget, before there is a row.

        Args:
            fixed: fragment with the explanation, for a run that only scores.
        """
        explanation = explanation_id(request.parent, request.request_id)
        name = names.explanation_name(request.parent, explanation)
        # By digest: two creates that race may freeze different plans, and the row decides.
        prefix = f"{names.parse_project(request.parent)}/{explanation}"
        refs = [
            await self._parts.artifacts.put(
                f"{prefix}/{role}.{digest(message)}", message.SerializeToString(deterministic=True)
            )
            for role, message in (
                ("plan", frozen.plan),
                ("methods", frozen.catalog),
                *((("fixed", fixed),) if fixed is not None else ()),
            )
        ]
        await self._parts.journal.set_budget(name, frozen.plan.budget)
        return NewExplanation(
            project=request.parent,
            id=explanation,
            request_id=request.request_id,
            request_hash=digest(request),
            feature=frozen.plan.feature,
            sae=frozen.plan.sae.name,
            plan=frozen.plan.SerializeToString(deterministic=True),
            workflow_input=_workflow_input(name, refs, frozen),
            explanation=None if fixed is None else fixed.explanation,
            scored_explanation=frozen.plan.scored_explanation,
        )


def _workflow_input(name: str, refs: Sequence[ArtifactRef], frozen: Frozen) -> ExplainInput:
    plan, catalog, *fixed = refs
    return ExplainInput(
        explanation=name,
        plan=plan,
        methods_catalog=catalog,
        methods=tuple(
            MethodPlan(name=options.method, asks_llm=options.judge == "llm")
            for options in frozen.plan.methods
        ),
        explainer_asks_llm=frozen.explainer_asks_llm,
        max_round_count=frozen.plan.budget.max_round_count,
        baseline_explainer_version=frozen.baseline_explainer_version,
        loop=_loop_plan(frozen.plan),
        fixed=fixed[0] if fixed else None,
    )


def _loop_plan(plan: dossier_pb2.Plan) -> LoopPlan:
    return LoopPlan(
        hypothesis_count=plan.explainer.hypothesis_count,
        revises_last_round=plan.loop.revises_last_round,
        candidate_count=plan.loop.candidate_count,
        candidate_token_count=plan.loop.candidate_token_count,
    )


def _index_id(request: explanation_pb2.CreateIndexRequest) -> str:
    """The id of the index that a request means, in any project."""
    meant = explanation_pb2.CreateIndexRequest(config=request.config, request_id=request.request_id)
    return names.index_id(digest(meant))


async def _wait(news: asyncio.Event, seconds: float) -> None:
    """Until there is news or it is time to look anyway."""
    try:
        await asyncio.wait_for(news.wait(), seconds)
    except TimeoutError:
        return
