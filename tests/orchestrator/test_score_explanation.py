"""Scores of what is there already. Guards against scores that overwrite others, that are of
another explanation than the one named, or that a crash or a repeat makes twice.
Load-bearing: a wrong explanation of the same feature scores 0 where ours scores 1."""

from __future__ import annotations

from typing import Any

import pytest

from saexplain.common.v1 import explanation_pb2 as common
from saexplain.common.v1 import feature_pb2, pattern_pb2, score_pb2
from saexplain.explanation.v1 import explanation_pb2 as pb
from saexplain.scorer.v1 import scorer_pb2
from services.common.canonical import digest
from services.common.errors import NotFound, SaexplainError
from services.common.grpc_client import rpc_errors
from tests.fakes import world
from tests.orchestrator.stack import PROJECT, Stack, request

FEATURE = f"{world.SAE}/features/0"
CORPUS = scorer_pb2.MethodOptions(method="corpus", judge="llm")
CORPUS.llm.model = "tiny-llm"
_numbers = iter(range(1000))


def asked(**fields: Any) -> pb.ScoreExplanationRequest:
    """A valid request; `fields` say what to score."""
    fields.setdefault("request_id", f"score{next(_numbers)}")
    return pb.ScoreExplanationRequest(parent=PROJECT, **fields)


def given(words: str, feature: str = FEATURE) -> pb.GivenExplanation:
    """An explanation from elsewhere that names words."""
    return pb.GivenExplanation(
        feature=feature, explanation=common.Explanation(description=f"words: {words}")
    )


async def score(stack: Stack, wanted: pb.ScoreExplanationRequest) -> pb.ExplanationResource:
    """Creates a scoring; its workflow ends with the stack at the latest."""
    made = (await stack.api.ScoreExplanation(wanted)).explanation
    stack.created.add(made.name)
    return made


async def refusal(stack: Stack, wanted: pb.ScoreExplanationRequest) -> SaexplainError:
    """The error that a request is answered with."""
    with pytest.raises(SaexplainError) as caught:
        async with rpc_errors():
            await stack.api.ScoreExplanation(wanted)
    return caught.value


async def test_a_stored_explanation_gets_new_scores_and_keeps_its_own(stack: Stack) -> None:
    """A version of its own: the scored run stays as it was, byte for byte."""
    first = await stack.finish((await stack.create(request())).name)
    before = await stack.bundle(first.name)
    generative = scorer_pb2.MethodOptions(method="generative", judge="pattern", seed=9)
    made = await score(stack, asked(explanation=first.name, methods=[generative]))
    ended = await stack.finish(made.name)

    assert ended.state == pb.RUN_STATE_SUCCEEDED, ended.failure
    assert (ended.scores_only, ended.scored_explanation) == (True, first.name)
    assert ended.explanation == first.explanation
    assert [(s.metric, s.value) for s in ended.scores] == [("share_active", 1.0)]
    assert await stack.bundle(first.name) == before
    assert await stack.get(first.name) == first

    dossier = (await stack.bundle(made.name)).dossier
    assert dossier.plan.scored_explanation == first.name
    assert dossier.plan.explainer.explainer == "lexical"
    assert dossier.explanation_digest == digest(first.explanation)
    assert not dossier.rounds
    assert dossier.facts.feature == FEATURE
    listed = await stack.api.ListExplanations(
        pb.ListExplanationsRequest(parent=PROJECT, scored_explanation=first.name)
    )
    assert [e.name for e in listed.explanations] == [made.name]


async def test_explanations_from_elsewhere_are_scored_as_they_are(stack: Stack) -> None:
    """The negative control: a word that never comes scores 0, on the same windows."""
    right = await score(stack, asked(given=given("red, green, blue, yellow"), methods=[CORPUS]))
    wrong = await score(stack, asked(given=given("zebra"), methods=[CORPUS]))
    values = [(await stack.finish(made.name)).scores[0] for made in (right, wrong)]
    assert [v.value for v in values] == [1.0, 0.0]
    assert all(v.status == score_pb2.SCORE_STATUS_OK for v in values)
    # The baseline of another feature is there as in a run that explains.
    assert [b.name for b in values[0].baselines] == ["other_feature"]
    found = await stack.get(right.name)
    assert (found.scores_only, found.scored_explanation) == (True, "")
    assert found.explanation.label == "words: red, green, blue, yellow"


async def test_a_repeat_finds_the_run_and_another_request_under_its_id_is_refused(
    idle_stack: Stack,
) -> None:
    wanted = asked(given=given("red"), methods=[CORPUS])
    first, again = await score(idle_stack, wanted), await score(idle_stack, wanted)
    assert first.name == again.name
    wanted.seed = 8
    assert (await refusal(idle_stack, wanted)).reason == "REQUEST_ID_REUSED"
    # Ids are one space with those of explanations.
    taken = request(wanted.request_id)
    with pytest.raises(SaexplainError, match="another request"):
        async with rpc_errors():
            await idle_stack.api.CreateExplanation(taken)


async def test_a_run_that_never_started_is_started_and_survives_its_worker(
    idle_stack: Stack,
) -> None:
    """The worker dies between planning and scoring; the next one goes on, buying nothing
    twice."""
    made = await score(idle_stack, asked(given=given("red"), methods=[CORPUS]))
    arrived = idle_stack.script.hold("Score")
    async with idle_stack.worker():
        await arrived.wait()
    judged = idle_stack.script.calls["Judge"]
    idle_stack.script.release("Score")
    async with idle_stack.worker():
        ended = await idle_stack.finish(made.name)
    assert ended.state == pb.RUN_STATE_SUCCEEDED, ended.failure
    assert idle_stack.script.calls["Judge"] == judged


async def test_a_step_that_fails_for_good_ends_the_run_with_its_reason(stack: Stack) -> None:
    stack.script.fail_when("ListExemplars", lambda _: NotFound("no such index"))
    made = await score(stack, asked(given=given("red"), methods=[CORPUS]))
    ended = await stack.finish(made.name)
    assert ended.state == pb.RUN_STATE_FAILED
    assert ended.failure.step in ("list_score_windows", "list_other_exemplars")
    assert ended.failure.reason == "RESOURCE_NOT_FOUND"


async def test_a_cancelled_run_ends_cancelled(stack: Stack) -> None:
    arrived = stack.script.hold("Score")
    made = await score(stack, asked(given=given("red"), methods=[CORPUS]))
    await arrived.wait()
    await stack.api.CancelExplanation(pb.CancelExplanationRequest(name=made.name))
    assert (await stack.finish(made.name)).state == pb.RUN_STATE_CANCELLED
    stack.script.release("Score")


BAD_PATTERN = common.Explanation(label="x", pattern=pattern_pb2.Pattern())
REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({}, "INVALID_ARGUMENT", "FIELD_INVALID"),
    ({"explanation": "nobody"}, "INVALID_ARGUMENT", "FIELD_INVALID"),
    ({"explanation": "projects/other/explanations/e1"}, "INVALID_ARGUMENT", "FIELD_INVALID"),
    ({"explanation": f"{PROJECT}/explanations/none"}, "NOT_FOUND", "RESOURCE_NOT_FOUND"),
    ({"given": pb.GivenExplanation(feature=FEATURE)}, "INVALID_ARGUMENT", "FIELD_INVALID"),
    ({"given": given("x", "feature 1")}, "INVALID_ARGUMENT", "FIELD_INVALID"),
    ({"given": given("x", f"{world.SAE}/features/99")}, "INVALID_ARGUMENT", "FEATURE_OUT_OF_RANGE"),
    (
        {"given": pb.GivenExplanation(feature=FEATURE, explanation=BAD_PATTERN)},
        "INVALID_ARGUMENT",
        "FIELD_INVALID",
    ),
    (
        {"given": given("x"), "methods": [scorer_pb2.MethodOptions(method="odd", judge="llm")]},
        "INVALID_ARGUMENT",
        "METHOD_UNKNOWN",
    ),
    ({"given": given("x"), "request_id": "a b"}, "INVALID_ARGUMENT", "FIELD_INVALID"),
]


async def test_bad_requests_are_refused_with_their_reason(idle_stack: Stack) -> None:
    """One stack for all: each is an answer, and none leaves a run."""
    for fields, status, reason in REFUSED:
        error = await refusal(idle_stack, asked(**fields))
        assert (error.status, error.reason) == (status, reason), fields
    made = await idle_stack.create(request())
    error = await refusal(idle_stack, asked(explanation=made.name))
    assert (error.status, error.reason) == ("FAILED_PRECONDITION", "STATE_CONFLICT")


async def test_what_explains_nothing_is_not_scored(stack: Stack) -> None:
    """A dead feature ends with NO_EVIDENCE: a score of it would be invented."""
    ended = await stack.finish((await stack.create(request(feature_index=3))).name)
    assert ended.explanation.status == common.EXPLANATION_STATUS_NO_EVIDENCE
    error = await refusal(stack, asked(explanation=ended.name))
    assert error.reason == "STATE_CONFLICT"
    assert "NO_EVIDENCE" in str(error)


async def test_features_are_listed_by_stratum_through_the_public_api(idle_stack: Stack) -> None:
    """Who compares explainers reaches no service behind the API."""
    wanted = pb.ListFeaturesRequest(
        sae=world.SAE, strata=[feature_pb2.FEATURE_STRATUM_ELIGIBLE], page_size=2
    )
    first = await idle_stack.api.ListFeatures(wanted)
    assert [f.feature[-1] for f in first.features] == ["0", "1"]
    assert first.total_count == 3
    wanted.page_token = first.next_page_token
    second = await idle_stack.api.ListFeatures(wanted)
    assert ([f.feature[-1] for f in second.features], second.next_page_token) == (["2"], "")
    idle_stack.script.fail("ListFeatures", NotFound("no such SAE", "SAE_NOT_FOUND"))
    with pytest.raises(SaexplainError) as caught:
        async with rpc_errors():
            await idle_stack.api.ListFeatures(wanted)
    assert caught.value.reason == "SAE_NOT_FOUND"
