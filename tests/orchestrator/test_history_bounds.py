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

    described = await stack.client.get_workflow_handle(created.name).describe()
    info = described.raw_description.workflow_execution_info
    with capsys.disabled():
        sys.stdout.write(
            f"\n{explainer}: {info.history_length} events, {info.history_size_bytes} bytes\n"
        )
    assert info.history_length <= MOST_EVENTS
    assert info.history_size_bytes <= MOST_BYTES
