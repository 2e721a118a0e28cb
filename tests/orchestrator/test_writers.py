"""Who writes texts for a score, as a plan freezes it."""

from __future__ import annotations

import pytest

from saexplain.agent.v1.agent_pb2 import ExplainerOptions
from saexplain.common.v1.usage_pb2 import LlmOptions
from saexplain.explanation.v1.explanation_pb2 import CreateExplanationRequest
from saexplain.scorer.v1.scorer_pb2 import ListMethodsResponse, Method, MethodOptions
from services.common.errors import InvalidArgument
from services.orchestrator.plan import freeze_methods

JUDGES = ("pattern", "llm")
CATALOG = ListMethodsResponse(
    methods=[
        Method(name="corpus", judges=JUDGES),
        Method(name="generative", judges=JUDGES, writes_texts=True),
    ]
)
SAGE = ExplainerOptions(explainer="sage", llm=LlmOptions(model="m-1"))


def freeze(asked: MethodOptions, explainer: ExplainerOptions = SAGE) -> MethodOptions:
    (frozen,) = freeze_methods(CreateExplanationRequest(methods=[asked]), explainer, CATALOG, "m-2")
    return frozen


def test_a_plan_knows_who_writes_and_who_explained() -> None:
    """Guards against texts of the explainer's own model that pass for another's."""
    asked = MethodOptions(method="generative", judge="llm")
    assert (freeze(asked).llm.model, freeze(asked).explainer_model) == ("m-1", "m-1")
    assert not freeze(asked).HasField("writer")
    asked.writer.model = "m-3"
    assert (freeze(asked).writer.model, freeze(asked).explainer_model) == ("m-3", "m-1")
    imported = freeze(asked, ExplainerOptions(explainer="import"))
    assert imported.explainer_model == ""
    assert not freeze(MethodOptions(method="corpus", judge="llm")).explainer_model


@pytest.mark.parametrize(("method", "judge"), [("corpus", "llm"), ("generative", "pattern")])
def test_a_writer_is_refused_where_nothing_is_written(method: str, judge: str) -> None:
    """Guards against a writer that is asked for and silently never used."""
    asked = MethodOptions(method=method, judge=judge, writer=LlmOptions(model="m-3"))
    with pytest.raises(InvalidArgument) as raised:
        freeze(asked)
    assert raised.value.violations[0].field == "methods[0].writer"
