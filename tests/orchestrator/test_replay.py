"""Recorded histories replay on today's workflow code. Guards against a change that would
break explanations that are running while it is deployed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from services.orchestrator import policies
from services.orchestrator.activity_shell import ShellInterceptor
from services.orchestrator.temporal_client import DATA_CONVERTER
from services.orchestrator.worker import WORKFLOWS

HISTORIES = sorted((Path(__file__).parent / "histories").glob("*/*.json"))


@workflow.defn(name="ExplainFeature", sandboxed=False)
class Changed:
    """A workflow of the same name with another first step."""

    @workflow.run
    async def run(self, plan: dict[str, Any]) -> None:
        """Proposes before it gathers."""
        await workflow.execute_activity(
            "propose_hypotheses", plan, **policies.options("propose_hypotheses")
        )


def _read(path: Path) -> WorkflowHistory:
    return WorkflowHistory.from_json("recorded", path.read_text())


def _replayer(workflows: list[type]) -> Replayer:
    return Replayer(
        workflows=workflows, data_converter=DATA_CONVERTER, interceptors=[ShellInterceptor()]
    )


def test_there_are_histories() -> None:
    """Guards against a replay test that replays nothing."""
    found = {path.stem for path in HISTORIES}
    assert found >= {"lexical_three_rounds", "sage_three_rounds", "three_shards", "two_methods"}


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
async def test_a_recorded_run_replays(path: Path) -> None:
    """Nondeterminism raises. After a change on purpose: record again (record_history)."""
    await _replayer(list(WORKFLOWS)).replay_workflow(_read(path))


async def test_a_workflow_that_changed_its_steps_does_not_replay() -> None:
    """The negative control: another first step must be noticed."""
    (recorded,) = (path for path in HISTORIES if path.stem == "lexical_three_rounds")
    with pytest.raises(workflow.NondeterminismError):
        await _replayer([Changed]).replay_workflow(_read(recorded))
