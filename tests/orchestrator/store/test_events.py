"""Events: gapless, once per step, none behind the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from saexplain.common.v1 import usage_pb2
from saexplain.explanation.v1 import explanation_pb2
from services.common.artifact_ref import ArtifactRef
from services.common.database import create_engine
from services.common.errors import NotFound, Unavailable
from services.orchestrator.records import ExplainInput
from services.orchestrator.store.explanations import Ending, ExplanationStore, NewExplanation

NOW = datetime(2026, 1, 2, tzinfo=UTC)
NAME = "projects/default/explanations/e1"
REF = ArtifactRef(path="p", sha256="0" * 64, size=1)
EVENT = explanation_pb2.ExplanationEvent(step="step")
FAILED = Ending(state=explanation_pb2.RUN_STATE_FAILED)


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[ExplanationStore]:
    """A store that holds one explanation."""
    engine = create_engine(database_url)
    made = ExplanationStore(engine)
    run = ExplainInput(
        explanation=NAME,
        plan=REF,
        methods_catalog=REF,
        methods=(),
        explainer_asks_llm=False,
        max_round_count=4,
    )
    new = NewExplanation("projects/default", "e1", "r1", "h", "f", "saes/s", b"", run)
    await made.create(new, NOW)
    yield made
    await engine.dispose()


async def test_sequences_have_no_gaps_when_steps_race(store: ExplanationStore) -> None:
    """Guards against two events with one sequence, and against holes."""
    await asyncio.gather(*(store.append(NAME, f"k{i}", EVENT, NOW) for i in range(12)))
    assert [e.sequence for e in await store.events(NAME, 0)] == list(range(1, 13))
    assert [e.sequence for e in await store.events(NAME, 9)] == [10, 11, 12]


async def test_a_repeated_step_adds_no_event_and_no_cost(store: ExplanationStore) -> None:
    """Guards against usage that is counted once per attempt."""
    usage = usage_pb2.LlmUsage(prompt_token_count=10, request_count=1)
    first = await store.append(NAME, "k", EVENT, NOW, usage, probe_count=3)
    again = await store.append(NAME, "k", EVENT, NOW, usage, probe_count=3)
    assert first == again == 1
    event = (await store.events(NAME, 0))[0]
    assert (event.usage.prompt_token_count, event.probe_count) == (10, 3)
    assert (await store.get(NAME))["probe_count"] == 3


async def test_a_run_ends_once_and_nothing_follows(store: ExplanationStore) -> None:
    """Guards against a cancel that overtakes a result, or events behind the last."""
    assert await store.end(NAME, FAILED, EVENT, NOW)
    succeeded = Ending(state=explanation_pb2.RUN_STATE_SUCCEEDED)
    assert not await store.end(NAME, succeeded, EVENT, NOW)
    assert await store.append(NAME, "late", EVENT, NOW) == 0
    assert len(await store.events(NAME, 0)) == 1
    assert (await store.get(NAME))["state"] == explanation_pb2.RUN_STATE_FAILED


async def test_what_is_missing_and_what_is_away_are_told_apart(store: ExplanationStore) -> None:
    """Guards against a database outage that reads as NOT_FOUND."""
    with pytest.raises(NotFound):
        await store.get("projects/default/explanations/none")
    engine = create_engine("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(Unavailable):
        await ExplanationStore(engine).get(NAME)
    await engine.dispose()
