"""What a run survives, what ends it, and what only costs it a part."""

from __future__ import annotations

from dataclasses import replace

import pytest

from saexplain.common.v1 import explanation_pb2 as common
from saexplain.common.v1 import score_pb2
from saexplain.explanation.v1 import dossier_pb2, explanation_pb2
from services.common.errors import (
    Aborted,
    FailedPrecondition,
    InvalidArgument,
    ResourceExhausted,
    SaexplainError,
    Unavailable,
)
from services.orchestrator import policies
from services.orchestrator.policies import JUDGE_CHUNK
from tests.orchestrator.stack import Stack, request


async def test_a_run_goes_on_where_a_killed_worker_left_it(idle_stack: Stack) -> None:
    """Guards against work that is done twice: what was stored before the kill is not asked
    for again, and the dossier is the one an undisturbed run gives."""
    arrived = idle_stack.script.hold("Encode")
    created = await idle_stack.create(request())
    async with idle_stack.worker():
        await arrived.wait()
    before = dict(idle_stack.script.calls)
    idle_stack.script.release("Encode")
    async with idle_stack.worker():
        ended = await idle_stack.finish(created.name)
        assert ended.state == explanation_pb2.RUN_STATE_SUCCEEDED, ended.failure
        undisturbed = await idle_stack.finish((await idle_stack.create(request())).name)
    assert before["GetFeature"] + 1 <= idle_stack.script.calls["GetFeature"]
    assert undisturbed.dossier_digest == ended.dossier_digest
    bundle = await idle_stack.bundle(created.name)
    assert bundle.run.retry_count >= 1
    sequences = [event.sequence for event in await idle_stack.watch(created.name)]
    assert sequences == list(range(1, len(sequences) + 1))


async def test_the_same_plan_and_replies_give_the_same_dossier(stack: Stack) -> None:
    """Byte for byte, although times, attempts and names of runs differ: the second run is
    disturbed by faults that pass."""
    first = await stack.finish((await stack.create(request())).name)
    stack.script.fail("ListExemplars", Unavailable("away"))
    stack.script.fail("Score", ResourceExhausted("full", retry_after_seconds=0.1))
    second = await stack.finish((await stack.create(request())).name)
    assert first.name != second.name
    one, two = await stack.bundle(first.name), await stack.bundle(second.name)
    assert one.dossier.SerializeToString(deterministic=True) == two.dossier.SerializeToString(
        deterministic=True
    )
    assert (one.run.retry_count, two.run.retry_count) == (0, 2)


async def test_a_full_queue_is_waited_out_however_often_it_refuses(stack: Stack) -> None:
    """Guards against a campaign that fails because it is large: refusals for a full queue do
    not count as attempts, neither then nor when something else fails afterwards."""
    attempts = policies.STEPS["list_token_neighbors"].attempts
    full = [
        ResourceExhausted("full", "QUEUE_FULL", retry_after_seconds=0.01) for _ in range(attempts)
    ]
    away = Unavailable("away", retry_after_seconds=0.01)
    stack.script.fail("ProbeVocabulary", *full, away)
    ended = await stack.finish((await stack.create(request())).name)
    assert ended.state == explanation_pb2.RUN_STATE_SUCCEEDED, ended.failure
    assert stack.script.calls["ProbeVocabulary"] == attempts + 2
    assert (await stack.bundle(ended.name)).run.retry_count == attempts + 1


async def test_runs_beyond_the_limit_of_probes_take_turns(stack: Stack) -> None:
    """Runs at once before a service that takes one ask in four, as 64 runs find one that has room
    for a few: each gets its probe in the end."""
    runs, asked = 6, 0

    def crowd(message: object) -> SaexplainError | None:
        nonlocal asked
        asked += 1
        full = ResourceExhausted("full", "QUEUE_FULL", retry_after_seconds=0.05)
        return full if asked % 4 else None

    stack.script.fail_when("ProbeVocabulary", crowd)
    created = [await stack.create(request()) for _ in range(runs)]
    for one in created:
        ended = await stack.finish(one.name)
        assert ended.state == explanation_pb2.RUN_STATE_SUCCEEDED, ended.failure
        assert len((await stack.bundle(one.name)).dossier.evidence.vocabulary_probes) == 2
    assert stack.script.calls["ProbeVocabulary"] == 4 * runs


async def test_what_stays_away_ends_the_run_after_its_attempts(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: attempts that count are limited although Temporal counts none."""
    patient = policies.STEPS["list_exemplars"]
    few = replace(patient, attempts=3, first_delay_seconds=0.01)
    monkeypatch.setitem(policies.STEPS, "list_exemplars", few)
    stack.script.fail_when("ListExemplars", lambda _: Unavailable("away"))
    ended = await stack.finish((await stack.create(request())).name)
    assert ended.state == explanation_pb2.RUN_STATE_FAILED
    assert (ended.failure.step, ended.failure.reason) == ("list_exemplars", "BACKEND_UNAVAILABLE")
    assert stack.script.calls["ListExemplars"] == 3


async def test_a_final_error_fails_the_run_with_its_reason(stack: Stack) -> None:
    """Guards against retries of what cannot pass, and against an end without a reason."""
    stack.script.fail("ProposeHypotheses", FailedPrecondition("old", "PLAN_VERSION_UNSUPPORTED"))
    stack.script.fail_when(
        "ListTokenNeighbors", lambda _: InvalidArgument("no such token", "token_ids")
    )
    ended = await stack.finish((await stack.create(request())).name)
    assert ended.state == explanation_pb2.RUN_STATE_FAILED
    assert ended.failure.reason == "FIELD_INVALID"
    assert ended.failure.step == "list_token_neighbors"
    assert stack.script.calls["ListTokenNeighbors"] == 1


async def test_a_spent_budget_ends_in_what_there_is(stack: Stack) -> None:
    """A budget that the journal refuses in round 2 leaves round 1's candidate, marked."""

    def spent(message: object) -> SaexplainError | None:
        if message.state.round < 2:  # type: ignore[attr-defined]
            return None
        return ResourceExhausted("spent", "BUDGET_EXHAUSTED", metadata={"unit": "tokens"})

    stack.script.fail_when("DesignProbes", spent)
    asked = request(explainer_name="sage")
    asked.explainer.positive_probe_count = asked.explainer.negative_probe_count = 1
    ended = await stack.finish((await stack.create(asked)).name)
    assert ended.state == explanation_pb2.RUN_STATE_SUCCEEDED, ended.failure
    assert ended.partial
    assert ended.stop_reason == dossier_pb2.STOP_REASON_LLM_TOKENS_SPENT
    assert ended.explanation.status == common.EXPLANATION_STATUS_EXPLAINED
    assert stack.script.calls["DesignProbes"] == 2


async def test_a_useless_reply_costs_one_candidate_not_its_rivals(stack: Stack) -> None:
    """Guards against a control of many drafts that fails with the first bad one."""

    def useless(message: object) -> SaexplainError | None:
        if message.scope.ordinal != 3_000:  # type: ignore[attr-defined]
            return None
        return Aborted("the reply is REFUSED", "LLM_REPLY_UNUSABLE")

    stack.script.fail_when("Synthesize", useless)
    ended = await stack.finish((await stack.create(request(explainer_name="best_of_n"))).name)
    assert ended.state == explanation_pb2.RUN_STATE_SUCCEEDED, ended.failure
    assert len((await stack.bundle(ended.name)).dossier.candidates) == 11


async def test_a_budget_spent_before_anything_says_so(stack: Stack) -> None:
    """Guards against an invented explanation where not even a proposal was paid for."""
    stack.script.fail_when(
        "ProposeHypotheses",
        lambda message: (
            ResourceExhausted("x", "BUDGET_EXHAUSTED", metadata={"unit": "USD"})
            if message.options.explainer == "sage"
            else None
        ),
    )
    ended = await stack.finish((await stack.create(request(explainer_name="sage"))).name)
    assert ended.state == explanation_pb2.RUN_STATE_SUCCEEDED, ended.failure
    assert ended.explanation.status == common.EXPLANATION_STATUS_NO_EXPLANATION
    assert "COST_SPENT" in ended.explanation.status_detail
    assert ended.partial
    assert {score.status for score in ended.scores} == {score_pb2.SCORE_STATUS_UNDEFINED}


async def test_a_dead_feature_has_no_evidence_and_no_score(stack: Stack) -> None:
    """Guards against hypotheses about nothing."""
    ended = await stack.finish((await stack.create(request(feature_index=3))).name)
    assert ended.state == explanation_pb2.RUN_STATE_SUCCEEDED, ended.failure
    assert ended.explanation.status == common.EXPLANATION_STATUS_NO_EVIDENCE
    assert all(not score.HasField("value") for score in ended.scores)
    assert stack.script.calls["ProposeHypotheses"] == 0


async def test_a_method_that_fails_costs_its_score_only(stack: Stack) -> None:
    """Guards against one bad reply that throws a whole run away, and against its silence."""
    stack.script.fail_when(
        "PlanScore",
        lambda message: Aborted("no schema") if message.options.method == "generative" else None,
    )
    ended = await stack.finish((await stack.create(request())).name)
    assert ended.state == explanation_pb2.RUN_STATE_SUCCEEDED, ended.failure
    by_metric = {score.metric: score for score in ended.scores}
    assert by_metric["f1"].value == 1.0
    failed = by_metric["share_active"]
    assert failed.status == score_pb2.SCORE_STATUS_FAILED
    assert "LLM_REPLY_UNUSABLE" in failed.status_reason
    assert not failed.HasField("value")


async def test_a_chunk_without_an_answer_is_counted_as_failed(stack: Stack) -> None:
    """Unparsed is not wrong is not zero: the items of a useless chunk are failed ones, and
    the chunks that came through are not asked for again."""

    def useless(message: object) -> SaexplainError | None:
        scoring = message.scope.step.startswith("score.")  # type: ignore[attr-defined]
        last = len(message.items) < JUDGE_CHUNK  # type: ignore[attr-defined]
        return Aborted("no schema") if scoring and last else None

    stack.script.fail_when("Judge", useless)
    ended = await stack.finish((await stack.create(request(explainer_name="sage"))).name)
    assert ended.state == explanation_pb2.RUN_STATE_SUCCEEDED, ended.failure
    judged = stack.script.requests["Judge"]
    scored = [r for r in judged if r.scope.step.startswith("score.")]
    last = [r for r in scored if len(r.items) < JUDGE_CHUNK]
    whole = [r for r in scored if len(r.items) == JUDGE_CHUNK]
    assert len(last) == 3
    assert len(whole) == len({r.items[0].id for r in whole}) >= 1
    f1 = ended.scores[0]
    assert f1.failed_count == len(last[0].items)
    assert f1.value == 1.0


async def test_heldout_is_read_once_after_the_digest_is_fixed(stack: Stack) -> None:
    """The invariant of splits: explainers see EXPLAIN, no request but the scorer's holds a
    HELDOUT window, and it is fetched by a single call, the last of its kind."""
    from saexplain.common.v1 import window_pb2

    created = await stack.create(request())
    await stack.finish(created.name)
    heldout = [
        any(s.split == window_pb2.SPLIT_HELDOUT for s in message.selections)
        for message in stack.script.requests["ListExemplars"]
    ]
    assert heldout.count(True) == 1
    assert heldout[-1]
    for rpc in ("ProposeHypotheses", "DesignProbes", "ReviseHypotheses", "Synthesize"):
        for message in stack.script.requests[rpc]:
            splits = {w.split for listed in message.evidence.windows for w in listed.windows}
            assert splits == {window_pb2.SPLIT_EXPLAIN}
            assert not message.evidence.facts.promoted_tokens
    steps = [event.step for event in stack.events]
    assert steps.index("choose_explanation") < steps.index("score")


async def test_costs_add_up_and_stand_in_the_run_record(stack: Stack) -> None:
    """1,000 tokens and a cent per call: usage is counted once however often a step ran."""
    stack.script.fail("Synthesize", Unavailable("away"))
    created = await stack.create(request(explainer_name="sage"))
    ended = await stack.finish(created.name)
    usage = ended.usage
    assert usage.prompt_token_count + usage.completion_token_count == 1_000 * usage.request_count
    assert usage.cost == pytest.approx(0.01 * usage.request_count)
    bundle = await stack.bundle(created.name)
    assert bundle.run.usage.request_count == usage.request_count
    assert len(bundle.run.usage.calls) == usage.request_count
    assert stack.events[-1].usage.request_count == usage.request_count
    assert not stack.events[-1].usage.calls
    assert ended.scores[0].judge == "llm"
