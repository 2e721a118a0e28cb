"""The worker: one Temporal worker per queue in one process, each bounded by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.worker import Worker, WorkerDeploymentConfig

from services.common.artifacts import ArtifactStore
from services.orchestrator import policies
from services.orchestrator.activities.choosing import ChoosingActivities
from services.orchestrator.activities.deciding import DecidingActivities
from services.orchestrator.activities.explaining import ExplainingActivities
from services.orchestrator.activities.gather import GatherActivities
from services.orchestrator.activities.indexing import IndexingActivities
from services.orchestrator.activities.judging import JudgingActivities
from services.orchestrator.activities.measuring import MeasuringActivities
from services.orchestrator.activities.recording import RecordingActivities
from services.orchestrator.activities.scoring import ScoringActivities
from services.orchestrator.activities.workspace import Workspace
from services.orchestrator.activity_shell import ShellInterceptor
from services.orchestrator.clients import Services
from services.orchestrator.settings import WorkerSettings
from services.orchestrator.store.explanations import ExplanationStore
from services.orchestrator.store.indexes import IndexStore
from services.orchestrator.store.journal import JournalStore
from services.orchestrator.workflows.build_index import BuildIndex
from services.orchestrator.workflows.explain_feature import ExplainFeature
from services.orchestrator.workflows.score_explanation import ScoreExplanation

DEPLOYMENT = "saexplain"
WORKFLOWS = (ExplainFeature, ScoreExplanation, BuildIndex)


@dataclass(frozen=True)
class Activities:
    """All activities of a worker, by what runs them."""

    control: Sequence[Callable[..., Any]]
    activation: Sequence[Callable[..., Any]]
    llm: Sequence[Callable[..., Any]]
    index: Sequence[Callable[..., Any]]


def build_activities(
    services: Services,
    engine: AsyncEngine,
    artifacts: ArtifactStore,
    now: Callable[[], datetime],
) -> Activities:
    """Makes the activities with their collaborators."""
    work = Workspace(services, artifacts, ExplanationStore(engine), now)
    gather = GatherActivities(work)
    explaining = ExplainingActivities(work)
    measuring = MeasuringActivities(work)
    deciding = DecidingActivities(work)
    judging = JudgingActivities(work)
    choosing = ChoosingActivities(work, judging)
    scoring = ScoringActivities(work)
    recording = RecordingActivities(work, JournalStore(engine))
    indexing = IndexingActivities(services, IndexStore(engine), now)
    return Activities(
        control=[
            deciding.decide,
            deciding.choose_explanation,
            judging.judge,
            recording.record,
            recording.end,
            indexing.end_index,
        ],
        activation=[
            gather.get_feature,
            gather.list_exemplars,
            gather.list_token_neighbors,
            gather.list_other_exemplars,
            measuring.encode_probes,
            scoring.list_score_windows,
            scoring.encode_texts,
        ],
        llm=[
            gather.propose_other,
            explaining.propose_hypotheses,
            explaining.design_probes,
            explaining.revise_hypotheses,
            explaining.synthesize,
            judging.judge,
            choosing.compare_candidates,
            scoring.plan_score,
            scoring.score,
        ],
        index=[indexing.plan_index, indexing.index_shard, indexing.merge_index],
    )


def build_workers(client: Client, activities: Activities, settings: WorkerSettings) -> list[Worker]:
    """A worker per queue. Only the control worker runs workflows and local activities."""
    limits = {
        policies.CONTROL: settings.control_activities,
        policies.ACTIVATION: settings.activation_activities,
        policies.LLM: settings.llm_activities,
        policies.INDEX: settings.index_activities,
    }
    by_queue = {
        policies.CONTROL: activities.control,
        policies.ACTIVATION: activities.activation,
        policies.LLM: activities.llm,
        policies.INDEX: activities.index,
    }
    return [
        Worker(
            client,
            task_queue=queue,
            workflows=list(WORKFLOWS) if queue == policies.CONTROL else [],
            activities=list(by_queue[queue]),
            max_concurrent_activities=limits[queue],
            max_concurrent_local_activities=limits[queue],
            graceful_shutdown_timeout=timedelta(seconds=settings.drain_seconds),
            interceptors=[ShellInterceptor()],
            deployment_config=_deployment(settings),
        )
        for queue in policies.QUEUES
    ]


def _deployment(settings: WorkerSettings) -> WorkerDeploymentConfig | None:
    if not settings.build_id:
        return None
    return WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(DEPLOYMENT, settings.build_id),
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.PINNED,
    )


async def run_workers(workers: Sequence[Worker], stop: asyncio.Event) -> None:
    """Runs the workers until `stop` is set or one of them fails; then all drain: nothing
    new is taken, and what runs has the graceful timeout to end.

    Raises:
        Exception: what made a worker fail.
    """
    running = [asyncio.create_task(worker.run()) for worker in workers]
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([*running, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    pairs = zip(workers, running, strict=True)
    await asyncio.gather(*(worker.shutdown() for worker, task in pairs if not task.done()))
    await asyncio.gather(*running)
