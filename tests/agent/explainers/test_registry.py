"""Guards that a plan is served by what it froze, or refused."""

from __future__ import annotations

import pytest

from saexplain.agent.v1.agent_pb2 import ExplainerOptions
from services.agent.explainers.registry import ExplainerRegistry
from services.agent.explainers.sage.explainer import SageExplainer
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
