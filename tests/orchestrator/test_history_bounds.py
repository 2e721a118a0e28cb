"""Histories stay small however long a run is (design, section 2). Guards against a step
that carries its data through Temporal, or that costs an event per window."""

from __future__ import annotations

import sys

import pytest

from saexplain.explanation.v1 import dossier_pb2, explanation_pb2
from tests.orchestrator.stack import Stack, request

MOST_EVENTS = 250
MOST_BYTES = 200_000


def five_rounds(explainer: str) -> explanation_pb2.CreateExplanationRequest:
    """One probe a side and round: after five rounds P(rate > 0.7) is 0.88, so that nothing
    is ever supported, and the rival is the only one refuted."""
    made = request(explainer_name=explainer, budget=dossier_pb2.Budget(max_round_count=5))
    made.explainer.positive_probe_count = 1
    made.explainer.negative_probe_count = 1
    return made


def busiest(explainer: str) -> explanation_pb2.CreateExplanationRequest:
    """Verdicts in every round and four methods that are judged and measured."""
    made = request(explainer_name=explainer, budget=dossier_pb2.Budget(max_round_count=5))
    made.explainer.positive_probe_count = made.explainer.negative_probe_count = 20
    made.budget.max_probe_count = 1_000
    for method in ("corpus", "generative", "corpus", "generative"):
        made.methods.add(method=method, judge="llm").llm.model = "tiny-llm"
    return made


@pytest.mark.parametrize("explainer", ["lexical", "sage"])
async def test_five_rounds_stay_within_the_bounds(
    stack: Stack, explainer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bound itself, on a run that goes through five rounds and all methods."""
    created = await stack.create(five_rounds(explainer))
    ended = await stack.finish(created.name)
    assert ended.state == explanation_pb2.RUN_STATE_SUCCEEDED, ended.failure
    dossier = (await stack.bundle(created.name)).dossier
    assert len(dossier.rounds) == 5
    assert dossier.stop_reason == dossier_pb2.STOP_REASON_ROUNDS_SPENT
    assert dossier.partial
    await _check_bounds(stack, created.name, explainer, capsys)


@pytest.mark.parametrize(
    ("explainer", "rounds", "candidates"), [("busy", 5, 3), ("best_of_n", 0, 12)]
)
async def test_many_candidates_and_methods_stay_within_the_bounds(
    stack: Stack,
    explainer: str,
    rounds: int,
    candidates: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Guards against a history that grows with every rival and every method."""
    created = await stack.create(busiest(explainer))
    ended = await stack.finish(created.name)
    assert ended.state == explanation_pb2.RUN_STATE_SUCCEEDED, ended.failure
    dossier = (await stack.bundle(created.name)).dossier
    assert (len(dossier.rounds), len(dossier.candidates)) == (rounds, candidates)
    assert len(dossier.results) == 4
    await _check_bounds(stack, created.name, explainer, capsys)


async def _check_bounds(
    stack: Stack, name: str, explainer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    described = await stack.client.get_workflow_handle(name).describe()
    info = described.raw_description.workflow_execution_info
    with capsys.disabled():
        sys.stdout.write(
            f"\n{explainer}: {info.history_length} events, {info.history_size_bytes} bytes\n"
        )
    assert info.history_length <= MOST_EVENTS
    assert info.history_size_bytes <= MOST_BYTES
