"""Starts the workflows of rows, and finds the rows whose start was lost.

The row is committed first and the workflow's id is the explanation's name, so that a
crash in between leaves a PENDING row that the reconciler starts, and a second start of
the same explanation finds the first.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy.engine import RowMapping
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from saexplain.activation.v1 import activation_pb2
from services.common import call_context
from services.common.canonical import canonical_json
from services.common.errors import SaexplainError, Unavailable
from services.common.names import explanation_name, index_name
from services.orchestrator import policies
from services.orchestrator.records import BuildIndexInput, ExplainInput
from services.orchestrator.store.explanations import ExplanationStore
from services.orchestrator.store.indexes import IndexStore

_log = structlog.get_logger(__name__)
_ORPHANS_AT_ONCE = 100


class Starter:
    """Starts and cancels workflows."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def start_explanation(self, run: ExplainInput) -> None:
        """Starts a run unless it was started before; one whose explanation is there already
        is only scored.

        Raises:
            Unavailable: Temporal cannot be reached.
        """
        workflow = "ExplainFeature" if run.fixed is None else "ScoreExplanation"
        await self._start(workflow, run, run.explanation)

    async def start_index(self, build: BuildIndexInput, workflow_id: str) -> None:
        """Starts a build unless it was started before.

        Raises:
            Unavailable: Temporal cannot be reached.
        """
        await self._start("BuildIndex", build, workflow_id)

    async def cancel(self, workflow_id: str) -> bool:
        """Asks a workflow to stop.

        Returns:
            False where there is no such workflow, or it has ended.

        Raises:
            Unavailable: Temporal cannot be reached.
        """
        try:
            await self._client.get_workflow_handle(workflow_id).cancel()
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                return False
            raise Unavailable(f"Temporal: {error.status.name}") from error
        return True

    async def _start(self, workflow: str, argument: Any, workflow_id: str) -> None:
        try:
            await self._client.start_workflow(
                workflow,
                argument,
                id=workflow_id,
                task_queue=policies.CONTROL,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            )
        except WorkflowAlreadyStartedError:
            _log.info("workflow_already_started", workflow_id=workflow_id)
        except RPCError as error:
            raise Unavailable(f"Temporal: {error.status.name}") from error


class Reconciler:
    """Starts PENDING rows that nobody started."""

    def __init__(
        self,
        store: ExplanationStore,
        indexes: IndexStore,
        starter: Starter,
        every_seconds: float,
        now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._indexes = indexes
        self._starter = starter
        self._every = every_seconds
        self._now = now

    async def run(self) -> None:
        """Looks again and again until cancelled."""
        while True:
            try:
                await self.once()
            except SaexplainError as error:
                _log.warning("reconcile_failed", reason=error.reason)
            await asyncio.sleep(self._every)

    async def once(self) -> int:
        """Starts all orphans that are older than a period.

        Returns:
            How many there were.
        """
        before = self._now() - timedelta(seconds=self._every)
        explanations = await self._store.orphans(before, _ORPHANS_AT_ONCE)
        for row in explanations:
            with _project(row):
                await self._starter.start_explanation(workflow_input(row))
            _log.info("orphan_started", explanation=explanation_name(row["project"], row["id"]))
        builds = await self._indexes.pending(before, _ORPHANS_AT_ONCE)
        for row in builds:
            with _project(row):
                await self._starter.start_index(build_input(row), build_id(row))
            _log.info("orphan_started", index=index_name(row["project"], row["id"]))
        return len(explanations) + len(builds)


def _project(row: RowMapping) -> contextlib.AbstractContextManager[None]:
    return call_context.use_context(call_context.CallContext(project=row["project"]))


def build_input(row: RowMapping) -> BuildIndexInput:
    """The input of a build's workflow."""
    config = activation_pb2.IndexConfig.FromString(row["config"])
    return BuildIndexInput(
        index=index_name(row["project"], row["id"]), config=canonical_json(config).decode()
    )


def build_id(row: RowMapping) -> str:
    """The id of a build's workflow; every attempt is a workflow of its own."""
    return f"{index_name(row['project'], row['id'])}/builds/{row['attempt']}"


def workflow_input(row: RowMapping) -> ExplainInput:
    """The input of a row's workflow."""
    return ExplainInput.model_validate(row["workflow_input"])
