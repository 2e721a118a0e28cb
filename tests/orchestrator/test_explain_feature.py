"""The workflow end to end on fake services. Guards against steps that are wired wrongly:
the load-bearing check is that the explanation names the words the feature truly fires at
and that its scores come from HELDOUT."""

from __future__ import annotations

from saexplain.common.v1 import explanation_pb2 as common
from saexplain.common.v1 import score_pb2, window_pb2
from saexplain.explanation.v1 import dossier_pb2, explanation_pb2
from services.common.canonical import digest
from tests.fakes import world
from tests.orchestrator.stack import Stack, request


async def test_a_lexical_run_explains_scores_and_records(stack: Stack) -> None:
    """Guards against a step that is left out or reads another step's artifact."""
    created = await stack.create(request())
    ended = await stack.finish(created.name)

    assert ended.state == explanation_pb2.RUN_STATE_SUCCEEDED, ended.failure
    words = set(ended.explanation.label.removeprefix("words: ").split(", "))
    assert words == set(world.FEATURES[0])
    f1 = ended.scores[0]
    assert (f1.metric, f1.status, f1.value) == ("f1", score_pb2.SCORE_STATUS_OK, 1.0)
    assert f1.split == window_pb2.SPLIT_HELDOUT
    assert [s.metric for s in ended.scores] == ["f1", "share_active"]

    bundle = await stack.bundle(created.name)
    dossier = bundle.dossier
    assert dossier.stop_reason != dossier_pb2.STOP_REASON_UNSPECIFIED
    assert dossier.ceiling == 1.0
    assert dossier.explanation_digest == digest(ended.explanation)
    assert [c.chosen for c in dossier.candidates].count(True) == 1
    assert dossier.candidates[-1].select_score == 1.0
    assert ended.dossier_digest == dossier.digest
    assert bundle.run.activation_backend == "in_process"
    assert ended.explanation.status == common.EXPLANATION_STATUS_EXPLAINED
