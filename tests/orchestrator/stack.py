"""Starts the orchestrator's own parts in this process, over the fakes of `tests/fakes`."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from saexplain.activation.v1 import activation_pb2_grpc
from saexplain.agent.v1 import agent_pb2, agent_pb2_grpc
from saexplain.explanation.v1 import explanation_pb2, explanation_pb2_grpc
from saexplain.scorer.v1 import scorer_pb2_grpc
from services.common.artifacts import ArtifactStore
from services.common.grpc_client import open_channel
from services.common.grpc_server import HealthReporter
from services.common.testing import serving
from services.orchestrator.api import ApiParts, ExplanationApi
from services.orchestrator.clients import open_services
from services.orchestrator.serving import api_parts, now, open_database
from services.orchestrator.settings import ApiSettings, WorkerSettings
from services.orchestrator.starting import Reconciler
from services.orchestrator.temporal_client import connect
from services.orchestrator.worker import build_activities, build_workers, run_workers
from tests.fakes import world
from tests.fakes.activation_service import FakeActivation
from tests.fakes.agent_service import FakeAgent
from tests.fakes.scorer_service import FakeScorer
from tests.fakes.script import Script

PROJECT = "projects/default"
_numbers = itertools.count()


@dataclass
class Stack:
    """What tests hold in their hands.

    Attributes:
        script: faults and gates of all fake services.
        api: stub of the public API.
        parts: the API's collaborators.
        reconciler: not running; tests call it.
    """

    script: Script
    agent: FakeAgent
    activation: FakeActivation
    api: explanation_pb2_grpc.ExplanationServiceAsyncStub
    parts: ApiParts
    reconciler: Reconciler
    client: Client
    artifacts: Path
    worker_settings: WorkerSettings
    events: list[explanation_pb2.ExplanationEvent] = field(default_factory=list)
    created: set[str] = field(default_factory=set)

    @contextlib.asynccontextmanager
    async def worker(self) -> AsyncIterator[None]:
        """A worker for the length of the body."""
        stop = asyncio.Event()
        async with (
            open_database(self.worker_settings) as engine,
            open_services(self.worker_settings) as services,
        ):
            activities = build_activities(services, engine, ArtifactStore(str(self.artifacts)), now)
            workers = build_workers(self.client, activities, self.worker_settings)
            running = asyncio.create_task(run_workers(workers, stop))
            try:
                yield
            finally:
                stop.set()
                await running

    async def create(
        self, request: explanation_pb2.CreateExplanationRequest
    ) -> explanation_pb2.ExplanationResource:
        """Creates an explanation; its workflow ends with the stack at the latest."""
        created = (await self.api.CreateExplanation(request)).explanation
        self.created.add(created.name)
        return created

    async def terminate_rest(self) -> None:
        """Ends what a test left running, so that no other test's worker picks it up."""
        for name in self.created:
            try:
                await self.client.get_workflow_handle(name).terminate()
            except RPCError as error:
                # NOT_FOUND: it has ended by itself.
                if error.status != RPCStatusCode.NOT_FOUND:
                    raise

    async def get(self, name: str) -> explanation_pb2.ExplanationResource:
        """Reads an explanation."""
        request = explanation_pb2.GetExplanationRequest(name=name)
        return (await self.api.GetExplanation(request)).explanation

    async def watch(
        self, name: str, after_sequence: int = 0
    ) -> list[explanation_pb2.ExplanationEvent]:
        """All events until the end."""
        request = explanation_pb2.WatchExplanationRequest(name=name, after_sequence=after_sequence)
        return [response.event async for response in self.api.WatchExplanation(request)]

    async def finish(self, name: str) -> explanation_pb2.ExplanationResource:
        """The explanation once its run has ended."""
        self.events = await self.watch(name)
        return await self.get(name)

    async def bundle(self, name: str) -> explanation_pb2.DossierBundle:
        """The dossier and its run record."""
        request = explanation_pb2.GetDossierRequest(name=name)
        data = b"".join([part.chunk async for part in self.api.GetDossier(request)])
        return explanation_pb2.DossierBundle.FromString(data)


def request(
    request_id: str = "",
    *,
    feature_index: int = 0,
    explainer_name: str = "lexical",
    **fields: object,
) -> explanation_pb2.CreateExplanationRequest:
    """A valid request; `fields` override. Without a request id it gets one of its own: the
    tests of a session share one Temporal server."""
    made = explanation_pb2.CreateExplanationRequest(
        parent=PROJECT,
        request_id=request_id or f"r{next(_numbers)}",
        feature=f"{world.SAE}/features/{feature_index}",
        explainer=agent_pb2.ExplainerOptions(explainer=explainer_name),
        seed=5,
    )
    if explainer_name != "lexical":
        made.explainer.llm.model = "tiny-llm"
    made.MergeFrom(explanation_pb2.CreateExplanationRequest(**fields))  # type: ignore[arg-type]
    return made


@contextlib.asynccontextmanager
async def open_stack(
    temporal_address: str,
    database_url: str,
    folder: Path,
    real_agent: agent_pb2_grpc.AgentServiceServicer | None = None,
    real_scorer: scorer_pb2_grpc.ScorerServiceServicer | None = None,
) -> AsyncIterator[Stack]:
    """Fake services and the API on free ports; no worker yet.

    Args:
        real_agent: serves in the place of the fake one; so does `real_scorer`.
    """
    script = Script()
    activation, agent, scorer = FakeActivation(script), FakeAgent(script), FakeScorer(script)

    async def register(server: grpc.aio.Server, health: HealthReporter) -> None:
        activation_pb2_grpc.add_ActivationServiceServicer_to_server(activation, server)
        agent_pb2_grpc.add_AgentServiceServicer_to_server(real_agent or agent, server)
        scorer_pb2_grpc.add_ScorerServiceServicer_to_server(real_scorer or scorer, server)
        await health.set_serving()

    async with contextlib.AsyncExitStack() as exits:
        behind = await exits.enter_async_context(serving(register))
        common = {
            "database_url": database_url,
            "artifact_url": str(folder / "artifacts"),
            "activation_address": behind,
            "indexer_address": behind,
            "agent_address": behind,
            "scorer_address": behind,
            "temporal_address": temporal_address,
            "connect_seconds": 10.0,
            "drain_seconds": 1.0,
        }
        settings = ApiSettings(
            **common, listen="127.0.0.1:0", reconcile_seconds=0.01, watch_poll_seconds=0.5
        )
        parts, reconciler = await exits.enter_async_context(api_parts(settings))

        async def register_api(server: grpc.aio.Server, health: HealthReporter) -> None:
            explanation_pb2_grpc.add_ExplanationServiceServicer_to_server(
                ExplanationApi(parts), server
            )
            await health.set_serving()

        address = await exits.enter_async_context(serving(register_api, settings=settings))
        channel = await exits.enter_async_context(open_channel(address))
        stack = Stack(
            script=script,
            agent=agent,
            activation=activation,
            api=explanation_pb2_grpc.ExplanationServiceStub(channel),  # type: ignore[arg-type]
            parts=parts,
            reconciler=reconciler,
            client=await connect(temporal_address, "default", 10.0),
            artifacts=folder / "artifacts",
            worker_settings=WorkerSettings(**common, listen="127.0.0.1:0"),
        )
        try:
            yield stack
        finally:
            await stack.terminate_rest()
