"""Guards that a plan is served by what it froze, or refused."""

from __future__ import annotations

import pytest

from saexplain.agent.v1.agent_pb2 import (
    VERDICT_SOURCE_CODE,
    VERDICT_SOURCE_EXPLAINER,
    ExplainerOptions,
)
from services.agent.explainers.registry import ExplainerRegistry
from services.agent.explainers.sage.explainer import SageExplainer
from services.agent.server import explainers
from services.common import errors


def test_explainers_are_described_without_a_model_as_unavailable() -> None:
    (described,) = ExplainerRegistry([SageExplainer(None)]).describe()
    assert (described.name, described.uses_llm, described.available) == ("sage", True, False)
    assert len(described.prompt_fingerprint) == 64


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        (ExplainerOptions(explainer="nobody"), errors.InvalidArgument, "EXPLAINER_UNKNOWN"),
        (ExplainerOptions(), errors.InvalidArgument, "EXPLAINER_UNKNOWN"),
        (
            ExplainerOptions(explainer="sage", version="0"),
            errors.FailedPrecondition,
            "PLAN_VERSION_UNSUPPORTED",
        ),
        (ExplainerOptions(explainer="sage"), errors.FailedPrecondition, "LLM_NOT_CONFIGURED"),
    ],
)
def test_what_cannot_be_served_is_refused(options, error, reason) -> None:
    with pytest.raises(error) as caught:
        ExplainerRegistry([SageExplainer(None)]).find(options)
    assert caught.value.reason == reason


def test_two_explainers_of_one_name_are_a_defect() -> None:
    with pytest.raises(ValueError, match="sage"):
        ExplainerRegistry([SageExplainer(None), SageExplainer(None)])


def test_every_explainer_declares_a_loop_that_can_be_run() -> None:
    """Guards against a policy that the orchestrator would refuse or run for ever."""
    described = {entry.name: entry for entry in explainers(None).describe()}
    assert set(described) == {
        "best_of_n", "import", "lexical", "one_shot", "paper", "random_probe", "sage",
    }  # fmt: skip
    for entry in described.values():
        loop = entry.loop
        assert loop.verdict_source in (VERDICT_SOURCE_CODE, VERDICT_SOURCE_EXPLAINER), entry.name
        assert 0 <= loop.round_count <= 14 and 0 <= loop.candidate_count <= 16
        assert (
            bool(loop.hypothesis_count) == bool(loop.round_count) == bool(loop.positive_probe_count)
        ), entry.name
    sage, control = described["sage"].loop, described["random_probe"].loop
    probes = sage.positive_probe_count + sage.negative_probe_count
    assert control.positive_probe_count + control.negative_probe_count == sage.round_count * probes
    assert described["paper"].loop.verdict_source == VERDICT_SOURCE_EXPLAINER


def test_explainers_that_ask_differently_have_other_fingerprints() -> None:
    """Guards against a stored reply that is taken for that of another prompt."""
    described = {e.name: e.prompt_fingerprint for e in explainers(None).describe() if e.uses_llm}
    assert len({described["sage"], described["paper"], described["one_shot"]}) == 3
    assert described["sage"] == described["random_probe"]
    assert described["one_shot"] == described["best_of_n"]
