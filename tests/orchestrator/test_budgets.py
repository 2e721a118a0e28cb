"""Budgets: when the loop ends, and how sums of usage treat what is not known."""

from __future__ import annotations

import pytest

from saexplain.agent.v1.agent_pb2 import LoopPolicy
from saexplain.common.v1 import experiment_pb2, usage_pb2
from saexplain.explanation.v1 import dossier_pb2
from services.common.errors import InvalidArgument
from services.orchestrator import budgets
from services.orchestrator.plan import freeze_budget
from services.orchestrator.records import Spending

LOOP = LoopPolicy(round_count=4)
BUDGET = freeze_budget(dossier_pb2.Budget(max_llm_token_count=10_000, max_cost=1.0), LOOP)


@pytest.mark.parametrize(
    ("used", "round_number", "stop"),
    [
        (Spending(), 1, None),
        (Spending(), 4, dossier_pb2.STOP_REASON_ROUNDS_SPENT),
        (Spending(probe_count=400), 1, dossier_pb2.STOP_REASON_PROBES_SPENT),
        # 6,000 spent, a round takes 3,000: it fits alone, but not with a synthesis of 2,000.
        (Spending(llm_token_count=6_000, last_round_token_count=3_000), 1, None),
        (
            Spending(
                llm_token_count=6_000, last_round_token_count=3_000, synthesis_token_count=2_000
            ),
            1,
            dossier_pb2.STOP_REASON_LLM_TOKENS_SPENT,
        ),
        (
            Spending(llm_token_count=2_000, cost=0.8, last_round_token_count=1_000),
            1,
            dossier_pb2.STOP_REASON_COST_SPENT,
        ),
    ],
)
def test_a_round_is_begun_only_if_it_and_a_synthesis_fit(
    used: Spending, round_number: int, stop: int | None
) -> None:
    """Guards against a run that spends its last token on a probe."""
    assert budgets.spent(BUDGET, used, round_number) == stop


def test_what_a_budget_does_not_name_the_explainer_does() -> None:
    """Guards against a control that is cut off by another explainer's defaults."""
    own = LoopPolicy(round_count=14, llm_token_count=1_500_000)
    asked = freeze_budget(dossier_pb2.Budget(max_round_count=2), own)
    assert (asked.max_round_count, asked.max_llm_token_count) == (2, 1_500_000)
    assert freeze_budget(dossier_pb2.Budget(), own).max_round_count == 14
    assert BUDGET.max_probe_count == budgets.DEFAULT_PROBES


def test_a_short_budget_of_probes_starves_no_side() -> None:
    """Guards against a cut that keeps the first hypothesis' positives only."""
    probes = [
        experiment_pb2.Probe(id=f"{h}{side}{n}", hypothesis_id=h, predicted_active=side)
        for h in ("a", "b")
        for side in (True, False)
        for n in range(3)
    ]
    kept = budgets.keep_within(probes, 6)
    assert len(kept) == 6
    assert {(p.hypothesis_id, p.predicted_active) for p in kept} == {
        (h, side) for h in ("a", "b") for side in (True, False)
    }
    assert [p.id for p in kept] == [p.id for p in probes if p in kept]


def test_a_sum_with_an_unknown_price_has_no_cost() -> None:
    """Guards against 0 standing for an unknown price."""
    total = usage_pb2.LlmUsage()
    budgets.add_usage(total, usage_pb2.LlmUsage())
    budgets.add_usage(
        total, usage_pb2.LlmUsage(prompt_token_count=5, cost=0.5, currency_code="USD")
    )
    assert (total.prompt_token_count, total.cost) == (5, 0.5)
    budgets.add_usage(total, usage_pb2.LlmUsage(prompt_token_count=7))
    assert total.prompt_token_count == 12
    assert not total.HasField("cost")
    budgets.add_usage(
        total, usage_pb2.LlmUsage(prompt_token_count=1, cost=0.5, currency_code="USD")
    )
    assert not total.HasField("cost")


@pytest.mark.parametrize(
    ("budget", "field"),
    [
        (dossier_pb2.Budget(max_round_count=-1), "budget.max_round_count"),
        (dossier_pb2.Budget(max_round_count=15), "budget.max_round_count"),
        (dossier_pb2.Budget(max_llm_token_count=-1), "budget.max_llm_token_count"),
        (dossier_pb2.Budget(max_probe_count=-5), "budget.max_probe_count"),
        (dossier_pb2.Budget(max_cost=-0.1), "budget.max_cost"),
        (dossier_pb2.Budget(max_cost=float("nan")), "budget.max_cost"),
        (dossier_pb2.Budget(currency_code="dollars"), "budget.currency_code"),
    ],
)
def test_a_wrong_budget_is_refused_with_its_field(budget: dossier_pb2.Budget, field: str) -> None:
    """Guards against a negative limit that would read as spent, or as none."""
    with pytest.raises(InvalidArgument) as caught:
        freeze_budget(budget, LOOP)
    assert caught.value.violations[0].field == field
