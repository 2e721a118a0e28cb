"""One feature through every real part: model, SAE, index, agent, scorer, Temporal,
PostgreSQL. The load-bearing check is that two runs of one plan give one dossier."""

from __future__ import annotations

from pathlib import Path

import pytest

from saexplain.common.v1 import explanation_pb2, score_pb2, window_pb2
from saexplain.explanation.v1 import dossier_pb2
from saexplain.explanation.v1 import explanation_pb2 as pb
from saexplain_client import AsyncSaexplainClient
from services.common.canonical import digest
from tests.e2e.features import eligible_features
from tests.e2e.running import RunningStack, saexplain

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]


async def _explained(
    client: AsyncSaexplainClient, feature: str, **options: object
) -> tuple[pb.ExplanationResource, dossier_pb2.Dossier]:
    run = await client.create_explanation(feature, "lexical", **options)
    done = await client.wait(run.name)
    assert done.state == pb.RUN_STATE_SUCCEEDED, done.failure
    return done, (await client.get_dossier(done.name)).dossier


async def test_a_lexical_run_ends_with_a_scored_explanation(
    stack: RunningStack, client: AsyncSaexplainClient
) -> None:
    feature = (await eligible_features(stack.address("activation"), 1, start=17))[0]
    done, dossier = await _explained(client, feature)

    assert done.explanation.status == explanation_pb2.EXPLANATION_STATUS_EXPLAINED
    assert done.explanation.label and done.explanation.description
    scores = {(s.method, s.metric): s for s in done.scores}
    assert {m for m, _ in scores} == {"corpus", "generative", "predictive", "input"}
    f1 = scores["corpus", "f1"]
    assert f1.status == score_pb2.SCORE_STATUS_OK
    assert f1.interval.low <= f1.value <= f1.interval.high
    assert {b.name for b in f1.baselines} == {
        "constant", "other_feature", "top_token", "token_table",
    }  # fmt: skip
    assert any(r.results for r in dossier.rounds), "no probe was measured"
    assert done.usage.request_count == 0


async def test_the_same_plan_gives_the_same_dossier(
    stack: RunningStack, client: AsyncSaexplainClient
) -> None:
    feature = (await eligible_features(stack.address("activation"), 1, start=900))[0]
    _, first = await _explained(client, feature, seed=7)
    _, second = await _explained(client, feature, seed=7)
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(
        deterministic=True
    )
    bare = dossier_pb2.Dossier()
    bare.CopyFrom(first)
    bare.ClearField("digest")
    assert digest(bare) == first.digest


async def test_the_explainer_saw_only_explain_and_heldout_shares_no_window(
    stack: RunningStack, client: AsyncSaexplainClient
) -> None:
    feature = (await eligible_features(stack.address("activation"), 1, start=17))[0]
    _, dossier = await _explained(client, feature)
    seen = {w.name for listed in dossier.evidence.windows for w in listed.windows}
    splits = {w.split for listed in dossier.evidence.windows for w in listed.windows}
    scored = {
        row.item for result in dossier.results for row in result.rows if "/windows/" in row.item
    }
    assert splits == {window_pb2.SPLIT_EXPLAIN}
    assert seen and scored and not seen & scored


async def test_events_are_gapless_and_a_repeated_request_finds_the_same_run(
    stack: RunningStack, client: AsyncSaexplainClient
) -> None:
    feature = (await eligible_features(stack.address("activation"), 1, start=17))[0]
    first = await client.create_explanation(feature, "lexical", request_id="once")
    again = await client.create_explanation(feature, "lexical", request_id="once")
    assert first.name == again.name
    events = [event async for event in client.watch_explanation(first.name)]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    later = [e async for e in client.watch_explanation(first.name, after_sequence=3)]
    assert [e.sequence for e in later] == [e.sequence for e in events[3:]]


async def test_a_language_model_explains_through_the_same_loop(
    stack: RunningStack, client: AsyncSaexplainClient
) -> None:
    from saexplain.agent.v1.agent_pb2 import ExplainerOptions
    from saexplain.common.v1.usage_pb2 import LlmOptions

    feature = (await eligible_features(stack.address("activation"), 1, start=17))[0]
    options = ExplainerOptions(explainer="sage", llm=LlmOptions(model="scripted"))
    run = await client.create_explanation(
        feature, options, budget=dossier_pb2.Budget(max_round_count=2)
    )
    done = await client.wait(run.name)
    assert done.state == pb.RUN_STATE_SUCCEEDED, done.failure
    assert done.usage.request_count > 0
    assert done.usage.completion_token_count > 0
    assert not done.usage.HasField("cost"), "the price of a scripted model is not known"


async def test_the_command_line_shows_lists_and_reports(
    stack: RunningStack, client: AsyncSaexplainClient, tmp_path: object
) -> None:
    feature = (await eligible_features(stack.address("activation"), 1, start=17))[0]
    done, _ = await _explained(client, feature)
    shown = saexplain("show", done.name, state=stack.state)
    assert shown.returncode == 0 and done.explanation.label[:20] in shown.stdout
    assert saexplain("list", "--json", state=stack.state).returncode == 0
    report = f"{tmp_path}/report.html"
    assert saexplain("report", done.name, "-o", report, state=stack.state).returncode == 0
    page = Path(report).read_text(encoding="utf-8")
    assert feature in page and "token_table" in page
    assert "src=" not in page and "<link" not in page, "a report loads nothing"
