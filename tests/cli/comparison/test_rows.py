"""Guards what a comparison reads of a run: reasoning that is counted twice, scoring that is
charged to the explainer, an unknown price as 0, a failure without its cost."""

from __future__ import annotations

import pytest

from saexplain.common.v1.explanation_pb2 import EXPLANATION_STATUS_NO_EXPLANATION
from saexplain.common.v1.usage_pb2 import LlmCall, LlmUsage
from saexplain.explanation.v1 import explanation_pb2 as pb
from saexplain_client import SaexplainClientError
from services.cli.comparison.rows import Cost, row_of
from services.cli.follow import FollowedRun
from services.cli.testing import DossierBuilder, FeatureSketch

FEATURE = "saes/demo/features/7"


def usage(*, priced: bool = True) -> LlmUsage:
    """Two calls of an explainer, one of a judge; worked out by hand below."""
    calls = [
        LlmCall(step="propose_hypotheses", prompt_token_count=1000, completion_token_count=300,
                reasoning_token_count=200),
        LlmCall(step="judge_candidate", prompt_token_count=50, completion_token_count=10),
        LlmCall(step="score.corpus.judge", prompt_token_count=400, completion_token_count=70),
    ]  # fmt: skip
    found = LlmUsage(request_count=3, calls=calls)
    if priced:
        found.cost, found.currency_code = 0.25, "USD"
    return found


def ended(state: pb.RunState.ValueType) -> FollowedRun:
    """A run that was followed to its end after 2.5 seconds."""
    run = FollowedRun(FEATURE, name="projects/default/explanations/e7")
    run.result = pb.ExplanationResource(name=run.name, feature=FEATURE, state=state, usage=usage())
    run.result.create_time.seconds = 100
    run.result.end_time.FromMilliseconds(102_500)
    return run


def bundle(found: LlmUsage) -> pb.DossierBundle:
    """Its dossier and run record."""
    made = DossierBuilder(FeatureSketch(index=7), explainer="sage").build()
    made.run.usage.CopyFrom(found)
    return made


def test_tokens_are_told_apart_by_what_they_were_for() -> None:
    """1,360 while explaining, 200 of them reasoning; the judge of candidates is the
    explainer's, the judge of scores is not."""
    made = bundle(usage())
    row = row_of("sage", ended(pb.RUN_STATE_SUCCEEDED), made)
    assert row.cost is not None
    assert (row.cost.visible_tokens, row.cost.explaining_tokens) == (1160, 1360)
    assert (row.cost.scoring_tokens, row.cost.money, row.cost.currency) == (470, 0.25, "USD")
    unpriced = row_of("sage", ended(pb.RUN_STATE_SUCCEEDED), bundle(usage(priced=False)))
    assert unpriced.cost is not None
    assert unpriced.cost.money is None


def test_scores_come_with_baselines_flags_and_reasons() -> None:
    row = row_of("sage", ended(pb.RUN_STATE_SUCCEEDED), bundle(LlmUsage()))
    assert row.explained
    f1 = row.values["corpus.f1"]
    assert (f1.value, f1.low, f1.baselines["token_table"]) == (0.74, pytest.approx(0.68), 0.71)
    assert "constant" not in row.values["corpus.pearson"].baselines
    assert row.values["corpus.recall"].insensitive
    undefined = row.values["predictive.pearson_mean"]
    assert (undefined.value, undefined.reason) == (None, "fewer than three HELDOUT exemplars")
    assert row.cost is not None
    assert (row.cost.money, row.cost.explaining_tokens) == (0.0, 0)


def test_a_run_that_found_nothing_says_why() -> None:
    made = bundle(LlmUsage())
    made.dossier.explanation.status = EXPLANATION_STATUS_NO_EXPLANATION
    made.dossier.explanation.status_detail = "nothing stands"
    row = row_of("sage", ended(pb.RUN_STATE_SUCCEEDED), made)
    assert (row.outcome, row.reason) == ("no explanation", "nothing stands")
    assert not row.explained
    assert row.ended_well


def test_failures_keep_their_cost_and_refusals_their_reason() -> None:
    run = ended(pb.RUN_STATE_FAILED)
    assert run.result is not None
    run.result.failure.reason, run.result.failure.message = "LLM_UNAVAILABLE", "no answer"
    failed = row_of("sage", run, None, "dense")
    assert (failed.outcome, failed.reason) == ("failed", "LLM_UNAVAILABLE: no answer")
    assert failed.cost == Cost(1160, 1360, 470, 0.25, "USD", 2.5)
    assert failed.stratum == "dense"
    refused = FollowedRun(FEATURE)
    refused.error = SaexplainClientError("INVALID_ARGUMENT", "", "not below 4608")
    row = row_of("sage", refused, None)
    assert (row.outcome, row.cost) == ("refused", None)
    assert row.reason == "INVALID_ARGUMENT: not below 4608"
    assert not row.ended_well
