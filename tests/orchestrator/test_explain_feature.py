"""The workflow end to end on fake services. Guards against steps that are wired wrongly:
the load-bearing check is that the explanation names the words the feature truly fires at
and that its scores come from HELDOUT."""

from __future__ import annotations

from collections.abc import Sequence

from saexplain.common.v1 import explanation_pb2 as common
from saexplain.common.v1 import score_pb2, vocabulary_pb2, window_pb2
from saexplain.explanation.v1 import dossier_pb2, explanation_pb2
from services.common.canonical import digest
from services.common.errors import FailedPrecondition, Unimplemented
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
    assert dossier.ceiling == dossier.evidence.ceiling.active_share == 1.0
    assert dossier.evidence.ceiling.exemplar_count == 24
    check_vocabulary(dossier.evidence.vocabulary_probes)
    assert dossier.explanation_digest == digest(ended.explanation)
    assert [c.chosen for c in dossier.candidates].count(True) == 1
    assert dossier.candidates[-1].select_score == 1.0
    assert ended.dossier_digest == dossier.digest
    assert bundle.run.activation_backend == "in_process"
    assert ended.explanation.status == common.EXPLANATION_STATUS_EXPLAINED


def check_vocabulary(probes: Sequence[vocabulary_pb2.CarrierProbe]) -> None:
    """The carrier that is kept with the index, and the best exemplar's own."""
    short, exemplar = probes
    assert short.carrier.kind == vocabulary_pb2.CARRIER_KIND_SHORT
    assert exemplar.carrier.kind == vocabulary_pb2.CARRIER_KIND_EXEMPLAR
    assert len(exemplar.carrier.prefix.token_ids) >= 3
    fired = {token.token_bytes.decode().strip() for token in exemplar.top_tokens}
    assert fired == set(world.FEATURES[0])
    assert exemplar.top_tokens[0].relative_activation == 1.0
    # Its words and their variants, with and without the space in front.
    assert exemplar.positive_token_count == exemplar.probed_token_count == 8


async def test_a_run_without_a_vocabulary_probe_says_why_it_has_none(stack: Stack) -> None:
    """An index that was built before its annotations: evidence is thinner, not false."""
    stack.script.fail(
        "GetVocabularyProbe", FailedPrecondition("no probe was kept", "ANNOTATION_NOT_BUILT")
    )
    created = await stack.create(request())
    ended = await stack.finish(created.name)
    assert ended.state == explanation_pb2.RUN_STATE_SUCCEEDED, ended.failure
    seen = (await stack.bundle(created.name)).dossier.evidence
    assert not seen.vocabulary_probes
    assert seen.vocabulary_absent_reason == "no probe was kept"
    assert any("no vocabulary probe" in event.message for event in stack.events)


async def test_a_model_that_cannot_be_probed_costs_the_probe_not_the_run(stack: Stack) -> None:
    """Guards against a family of unknown attention that can never be explained at all."""
    stack.script.fail("ProbeVocabulary", Unimplemented("attention with s_aux"))
    ended = await stack.finish((await stack.create(request())).name)
    assert ended.state == explanation_pb2.RUN_STATE_SUCCEEDED, ended.failure
    seen = (await stack.bundle(ended.name)).dossier.evidence
    kinds = [probe.carrier.kind for probe in seen.vocabulary_probes]
    assert kinds == [vocabulary_pb2.CARRIER_KIND_SHORT]
    assert seen.vocabulary_absent_reason == "attention with s_aux"
    assert any("no vocabulary probe behind its own" in event.message for event in stack.events)
    assert stack.script.calls["ProbeVocabulary"] == 1
