"""The worker dies by kill -9 in the middle of an explanation by a language model. After a
restart the run ends with the explanation of an undisturbed run, and nothing that was
stored is bought again: stored <= what the provider counted <= stored + LOST."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import psycopg
import pytest

from saexplain.agent.v1.agent_pb2 import ExplainerOptions
from saexplain.common.v1.usage_pb2 import LlmOptions
from saexplain.explanation.v1 import explanation_pb2 as pb
from saexplain.explanation.v1.dossier_pb2 import Budget
from saexplain_client import AsyncSaexplainClient
from tests.e2e.features import eligible_features
from tests.e2e.provider import Provider
from tests.e2e.running import RunningStack, running

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

OPTIONS = ExplainerOptions(explainer="sage", llm=LlmOptions(model="scripted"))
BUDGET = Budget(max_round_count=3)


async def _calls(stack: RunningStack, owner: str) -> dict[str, int]:
    """Rows of the journal by state."""
    query = "SELECT state, count(*) FROM llm_calls WHERE owner = %s GROUP BY state"
    async with await psycopg.AsyncConnection.connect(stack.database_url) as connection:
        cursor = await connection.execute(query, (owner,))
        return {str(state): int(count) for state, count in await cursor.fetchall()}


async def _until_ended(process: int) -> None:
    while Path(f"/proc/{process}").exists():  # noqa: ASYNC110
        await asyncio.sleep(0.1)


async def test_a_run_goes_on_after_its_worker_was_killed(
    tmp_path: Path, provider: Provider
) -> None:
    with running(tmp_path, environment=provider.environment) as stack:
        feature = (await eligible_features(stack.address("activation"), 1, start=40))[0]
        async with AsyncSaexplainClient(stack.address("orchestrator")) as client:
            calm = await client.create_explanation(feature, OPTIONS, budget=BUDGET)
            calm = await client.wait(calm.name)
            assert calm.state == pb.RUN_STATE_SUCCEEDED, calm.failure
            before = provider.call_count()
            hurt = await client.create_explanation(feature, OPTIONS, budget=BUDGET)
            async for event in client.watch_explanation(hurt.name):
                if event.step == "design_probes":
                    break
            supervisor = stack.record.supervisor.pid
            os.kill(stack.pid("worker"), signal.SIGKILL)
        # The supervisor names the dead process and stops the rest; all state is on disk.
        await _until_ended(supervisor)
        stack.up()
        async with AsyncSaexplainClient(stack.address("orchestrator")) as client:
            done = await client.wait(hurt.name)
            assert done.state == pb.RUN_STATE_SUCCEEDED, done.failure
        calls = await _calls(stack, hurt.name)
        counted = provider.call_count() - before
    assert done.explanation == calm.explanation
    stored = sum(n for state, n in calls.items() if state.upper() != "LOST")
    lost = sum(n for state, n in calls.items() if state.upper() == "LOST")
    assert stored <= counted <= stored + lost, (calls, counted)
