"""Replies with simulated activations on the committed vectors: OpenAI's reading and
Neuronpedia's fork."""

from __future__ import annotations

import pytest

from services.scorer.statistics.published import simulated
from tests.parity.vectors import cases

READERS = {
    "openai_text": simulated.openai_text,
    "fork_text": simulated.fork_text,
    "fork_json": simulated.fork_json,
}


@pytest.mark.parametrize(("case", "tolerance"), cases("simulation_reply_parse"))
def test_numbers_per_token(case, tolerance):
    """Guards against one reader's leniency in the other."""
    inputs = case["inputs"]
    for name, wanted in case["expected"].items():
        got = READERS[name](inputs["completion"], inputs["tokens"])
        assert got == pytest.approx(wanted, abs=tolerance["abs"]), name
