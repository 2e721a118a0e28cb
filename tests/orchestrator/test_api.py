"""The public API. Guards against runs that are made twice, events that are lost or come
twice, and errors without a field."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from saexplain.activation.v1 import activation_pb2
from saexplain.agent.v1 import agent_pb2
from saexplain.explanation.v1 import dossier_pb2, explanation_pb2
from saexplain.scorer.v1 import scorer_pb2
from services.common.errors import InvalidArgument, SaexplainError
from services.common.grpc_client import rpc_errors
from services.orchestrator.starting import Starter
from tests.fakes import world
from tests.orchestrator.stack import PROJECT, Stack, request


async def refusal(stack: Stack, asked: explanation_pb2.CreateExplanationRequest) -> SaexplainError:
    """The error that a request is answered with."""
    with pytest.raises(SaexplainError) as caught:
        async with rpc_errors():
            await stack.api.CreateExplanation(asked)
    return caught.value


async def test_the_same_request_gives_the_same_explanation(idle_stack: Stack) -> None:
    """Guards against two runs for one request, and against a silent change of it."""
    asked = request()
    first = await idle_stack.create(asked)
    calls = idle_stack.script.calls["GetSae"]
    again = await idle_stack.create(asked)
    assert again == first
    assert idle_stack.script.calls["GetSae"] == calls

    asked.seed = 6
    error = await refusal(idle_stack, asked)
    assert (error.status, error.reason) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")


async def test_creates_that_race_make_one_explanation(idle_stack: Stack) -> None:
    """Guards against the gap between looking and writing."""
    asked = request()
    made = await asyncio.gather(*(idle_stack.create(asked) for _ in range(4)))
    assert len({resource.name for resource in made}) == 1


REFUSED = [
    ({"feature": "saes/none/features/1"}, "NOT_FOUND", "SAE_NOT_FOUND", ""),
    (
        {"feature": f"{world.SAE}/features/{world.D_SAE}"},
        "INVALID_ARGUMENT",
        "FEATURE_OUT_OF_RANGE",
        "feature",
    ),
    ({"feature": "feature 7"}, "INVALID_ARGUMENT", "FIELD_INVALID", "feature"),
    ({"parent": "nowhere"}, "INVALID_ARGUMENT", "FIELD_INVALID", "parent"),
    ({"request_id": "a b"}, "INVALID_ARGUMENT", "FIELD_INVALID", "request_id"),
    (
        {"explainer": agent_pb2.ExplainerOptions(explainer="oracle")},
        "INVALID_ARGUMENT",
        "EXPLAINER_UNKNOWN",
        "explainer.explainer",
    ),
    (
        {"explainer": agent_pb2.ExplainerOptions(positive_probe_count=-1)},
        "INVALID_ARGUMENT",
        "FIELD_INVALID",
        "explainer.positive_probe_count",
    ),
    (
        {"explainer": agent_pb2.ExplainerOptions(version="0")},
        "FAILED_PRECONDITION",
        "PLAN_VERSION_UNSUPPORTED",
        "",
    ),
    (
        {"methods": [scorer_pb2.MethodOptions(method="vibes", judge="pattern")]},
        "INVALID_ARGUMENT",
        "METHOD_UNKNOWN",
        "methods[0].method",
    ),
    (
        {"methods": [scorer_pb2.MethodOptions(method="corpus", judge="me")]},
        "INVALID_ARGUMENT",
        "FIELD_INVALID",
        "methods[0].judge",
    ),
    (
        {"methods": [scorer_pb2.MethodOptions(method="corpus", judge="llm")]},
        "FAILED_PRECONDITION",
        "LLM_NOT_CONFIGURED",
        "",
    ),
    (
        {"methods": [scorer_pb2.MethodOptions(method="steering", judge="pattern")]},
        "UNIMPLEMENTED",
        "UNSUPPORTED",
        "",
    ),
    (
        {"budget": dossier_pb2.Budget(max_probe_count=-1)},
        "INVALID_ARGUMENT",
        "FIELD_INVALID",
        "budget.max_probe_count",
    ),
    ({"index": "indexes/x"}, "INVALID_ARGUMENT", "FIELD_INVALID", "index"),
    ({"index": f"{PROJECT}/indexes/none"}, "FAILED_PRECONDITION", "INDEX_NOT_BUILT", ""),
]


async def test_bad_requests_are_refused_with_reason_and_field(idle_stack: Stack) -> None:
    """Guards against INTERNAL, and against a run that fails later for what was known."""
    for fields, status, reason, field in REFUSED:
        error = await refusal(idle_stack, request(**fields))
        assert (error.status, error.reason) == (status, reason), fields
        assert [v.field for v in error.violations] == ([field] if field else []), fields
    idle_stack.agent.llm_available = False
    error = await refusal(idle_stack, request(explainer_name="sage"))
    assert error.reason == "LLM_NOT_CONFIGURED"


async def test_pages_go_through_all_explanations_once(idle_stack: Stack) -> None:
    """Guards against rows that are skipped or repeated between pages."""
    made = [(await idle_stack.create(request())).name for _ in range(5)]
    listed: list[str] = []
    asked = explanation_pb2.ListExplanationsRequest(parent=PROJECT, page_size=2)
    while True:
        page = await idle_stack.api.ListExplanations(asked)
        listed += [resource.name for resource in page.explanations]
        if not page.next_page_token:
            break
        asked.page_token = page.next_page_token
    assert listed == made[::-1]

    async with asyncio.timeout(10):
        for wrong in (
            explanation_pb2.ListExplanationsRequest(parent=PROJECT, page_token="x"),
            explanation_pb2.ListExplanationsRequest(parent=PROJECT, page_size=-1),
            explanation_pb2.ListExplanationsRequest(
                parent=PROJECT, sae=world.SAE, page_token=asked.page_token
            ),
        ):
            with pytest.raises(SaexplainError):
                async with rpc_errors():
                    await idle_stack.api.ListExplanations(wrong)


async def test_what_is_not_there_is_not_found(idle_stack: Stack) -> None:
    """Every method that takes a name."""
    name = f"{PROJECT}/explanations/none"
    index = f"{PROJECT}/indexes/none"
    api = idle_stack.api
    for call in (
        api.GetExplanation(explanation_pb2.GetExplanationRequest(name=name)),
        api.CancelExplanation(explanation_pb2.CancelExplanationRequest(name=name)),
        api.GetIndex(explanation_pb2.GetIndexRequest(name=index)),
        api.CancelIndex(explanation_pb2.CancelIndexRequest(name=index)),
    ):
        with pytest.raises(SaexplainError) as caught:
            async with rpc_errors():
                await call
        assert caught.value.reason == "RESOURCE_NOT_FOUND"


async def test_an_orphan_is_started_once(idle_stack: Stack) -> None:
    """The API died between row and start: the reconciler starts it, and a second look, or
    the caller's repeat, starts nothing more."""
    parts = idle_stack.parts

    class Died(Exception):
        """Where the process ends."""

    class DyingStarter(Starter):
        async def start_explanation(self, run: object) -> None:
            raise Died

    asked = request()
    living = parts.starter
    object.__setattr__(parts, "starter", DyingStarter(idle_stack.client))
    with pytest.raises(SaexplainError):
        async with rpc_errors():
            await idle_stack.api.CreateExplanation(asked)
    object.__setattr__(parts, "starter", living)
    await asyncio.sleep(0.02)
    assert await idle_stack.reconciler.once() == 1
    await idle_stack.reconciler.once()
    created = await idle_stack.create(asked)
    async with idle_stack.worker():
        ended = await idle_stack.finish(created.name)
    assert ended.state == explanation_pb2.RUN_STATE_SUCCEEDED, ended.failure


async def test_a_watch_goes_on_from_the_last_sequence(stack: Stack) -> None:
    """Guards against gaps and repeats when a client comes back."""
    created = await stack.create(request())
    ended = await stack.finish(created.name)
    sequences = [event.sequence for event in stack.events]
    assert sequences == list(range(1, len(sequences) + 1))
    assert stack.events[-1].step == "end"
    assert stack.events[-1].state == explanation_pb2.RUN_STATE_SUCCEEDED
    rest = await stack.watch(created.name, after_sequence=4)
    assert rest == stack.events[4:]
    assert await stack.watch(created.name, after_sequence=len(sequences)) == []
    decided = next(event for event in stack.events if event.step == "decide")
    assert {h.status for h in decided.hypotheses} <= {"OPEN", "SUPPORTED", "REFUTED"}
    assert ended.update_time.ToDatetime() - ended.create_time.ToDatetime() > timedelta(0)


async def test_a_cancelled_run_stops_and_stays_cancelled(stack: Stack) -> None:
    """Guards against a cancel that only marks the row, or a run that ends twice."""
    arrived = stack.script.hold("DesignProbes")
    created = await stack.create(request())
    await arrived.wait()
    cancel = explanation_pb2.CancelExplanationRequest(name=created.name)
    await stack.api.CancelExplanation(cancel)
    ended = await stack.finish(created.name)
    stack.script.release("DesignProbes")
    assert ended.state == explanation_pb2.RUN_STATE_CANCELLED
    assert not ended.HasField("failure")
    again = (await stack.api.CancelExplanation(cancel)).explanation
    assert again.state == explanation_pb2.RUN_STATE_CANCELLED
    with pytest.raises(SaexplainError) as caught:
        async with rpc_errors():
            await stack.bundle(created.name)
    assert caught.value.reason == "STATE_CONFLICT"


async def test_an_index_is_built_once_and_found_again(stack: Stack) -> None:
    """Guards against a second sweep for the same configuration."""
    asked = explanation_pb2.CreateIndexRequest(
        parent=PROJECT,
        config=activation_pb2.IndexConfig(sae=world.SAE, corpus="corpus.jsonl", seed=1),
    )
    stack.script.hold("MergeIndex")
    made = (await stack.api.CreateIndex(asked)).index
    found = await _index_when(stack, made.name, lambda index: index.done_token_count == 3_000)
    assert found.state == explanation_pb2.RUN_STATE_RUNNING
    assert (found.total_token_count, found.tokens_per_second) == (3_000, 500.0)
    stack.script.release("MergeIndex")
    built = await _index_when(stack, made.name, lambda index: index.HasField("end_time"))
    assert built.state == explanation_pb2.RUN_STATE_SUCCEEDED, built.failure
    assert built.summary.token_count == 3_000
    again = (await stack.api.CreateIndex(asked)).index
    assert again == built
    assert stack.script.calls["MergeIndex"] == 1
    listed = await stack.api.ListIndexes(explanation_pb2.ListIndexesRequest(parent=PROJECT))
    assert [index.name for index in listed.indexes] == [made.name]


async def test_an_index_is_named_before_its_corpus_is_read(stack: Stack) -> None:
    """Guards against a create that waits for a large corpus, and against one that hides what is
    wrong with it: the build ends with the reason."""
    asked = explanation_pb2.CreateIndexRequest(
        parent=PROJECT,
        config=activation_pb2.IndexConfig(sae=world.SAE, corpus="corpus.jsonl", seed=3),
    )
    arrived = stack.script.hold("PlanIndex")
    made = (await stack.api.CreateIndex(asked)).index
    assert (made.key, made.total_token_count) == ("", 0)
    await arrived.wait()
    running = await _index_when(stack, made.name, lambda index: True)
    assert running.state == explanation_pb2.RUN_STATE_RUNNING
    stack.script.release("PlanIndex")
    built = await _index_when(stack, made.name, lambda index: index.HasField("end_time"))
    assert (built.state, len(built.key)) == (explanation_pb2.RUN_STATE_SUCCEEDED, 64)
    merged = stack.script.requests["MergeIndex"][-1]
    assert merged.index_id == made.name.rpartition("/")[2]

    asked.request_id = "again"
    stack.script.fail("PlanIndex", InvalidArgument("line 3: the text is empty", "corpus"))
    other = (await stack.api.CreateIndex(asked)).index
    assert other.name != made.name
    ended = await _index_when(stack, other.name, lambda index: index.HasField("end_time"))
    assert ended.state == explanation_pb2.RUN_STATE_FAILED
    assert (ended.failure.step, ended.failure.reason) == ("plan_index", "FIELD_INVALID")
    assert "line 3" in ended.failure.message


async def test_a_killed_worker_costs_a_build_no_finished_shard(idle_stack: Stack) -> None:
    """Guards against a sweep that begins again after a restart: shards that were done before
    the kill are asked for once, the one in flight again."""
    asked = explanation_pb2.CreateIndexRequest(
        parent=PROJECT,
        config=activation_pb2.IndexConfig(sae=world.SAE, corpus="corpus.jsonl", seed=4),
    )
    idle_stack.script.hold("IndexShard", lambda request: request.shard == 2)
    made = (await idle_stack.api.CreateIndex(asked)).index
    async with idle_stack.worker():
        await _index_when(idle_stack, made.name, lambda index: index.done_token_count == 2_000)
    before = [request.shard for request in idle_stack.script.requests["IndexShard"]]
    idle_stack.script.release("IndexShard")
    async with idle_stack.worker():
        built = await _index_when(idle_stack, made.name, lambda index: index.HasField("end_time"))
    assert built.state == explanation_pb2.RUN_STATE_SUCCEEDED, built.failure
    after = [request.shard for request in idle_stack.script.requests["IndexShard"]][len(before) :]
    assert sorted(before) == [0, 1, 2]
    assert after == [2]


async def test_a_cancelled_build_can_be_begun_again(stack: Stack) -> None:
    """Guards against a key that is blocked for ever by its first failure."""
    asked = explanation_pb2.CreateIndexRequest(
        parent=PROJECT,
        config=activation_pb2.IndexConfig(sae=world.SAE, corpus="corpus.jsonl", seed=2),
    )
    arrived = stack.script.hold("IndexShard")
    made = (await stack.api.CreateIndex(asked)).index
    await arrived.wait()
    await stack.api.CancelIndex(explanation_pb2.CancelIndexRequest(name=made.name))
    ended = await _index_when(stack, made.name, lambda index: index.HasField("end_time"))
    stack.script.release("IndexShard")
    assert ended.state == explanation_pb2.RUN_STATE_CANCELLED
    await stack.api.CreateIndex(asked)
    built = await _index_when(stack, made.name, lambda index: index.HasField("summary"))
    assert built.state == explanation_pb2.RUN_STATE_SUCCEEDED


async def _index_when(stack: Stack, name: str, condition: object) -> explanation_pb2.IndexResource:
    """The index as soon as it is as wanted."""
    assert callable(condition)
    while True:
        asked = explanation_pb2.GetIndexRequest(name=name)
        index = (await stack.api.GetIndex(asked)).index
        if condition(index):
            return index
        await asyncio.sleep(0.1)
