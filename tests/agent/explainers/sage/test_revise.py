"""Guards that operations on hypotheses are applied by code: sound ones change ids,
revisions, statuses and parents as documented; unsound ones change nothing."""

from __future__ import annotations

import pytest

from saexplain.agent.v1 import agent_pb2 as pb
from saexplain.common.v1 import experiment_pb2 as experiment
from services.agent.explainers.llm.views import EvidenceView
from services.agent.explainers.sage.replies import Operation, RevisedHypothesis
from services.agent.explainers.sage.revise import MAX_OPEN, Revision
from tests.agent.builders import evidence, hypothesis, state

OPEN = experiment.HYPOTHESIS_STATUS_OPEN
SUPPORTED = experiment.HYPOTHESIS_STATUS_SUPPORTED
REFUTED = experiment.HYPOTHESIS_STATUS_REFUTED
REJECTED = experiment.HYPOTHESIS_STATUS_REJECTED
SUPERSEDED = experiment.HYPOTHESIS_STATUS_SUPERSEDED


def _operation(kind: str, sources: list[str], statements: list[str]) -> Operation:
    targets = [RevisedHypothesis(statement=s, kind="semantic", windows=["w2"]) for s in statements]
    return Operation(kind=kind, sources=sources, targets=targets, why="because")


def _revision() -> Revision:
    run = state(
        [
            hypothesis("h1"),
            hypothesis("h2", status=REFUTED),
            hypothesis("h3", status=SUPPORTED),
            hypothesis("h4", status=REJECTED),
        ],
        round_=2,
    )
    return Revision(run, EvidenceView.of(evidence()))


def _statuses(revision: Revision) -> dict[str, int]:
    return {h.id: h.status for h in revision.hypotheses}


def test_refining_keeps_the_id_and_starts_the_counts_anew() -> None:
    revision = _revision()
    assert revision.apply(_operation("refine", ["h2"], ["Narrower."]))
    changed = revision.hypotheses[1]
    assert (changed.id, changed.revision, changed.status) == ("h2", 2, OPEN)
    assert changed.statement == "Narrower."
    assert changed.kind == experiment.HYPOTHESIS_KIND_SEMANTIC
    assert changed.claimed_windows[0] == "indexes/i1/windows/11"
    assert not changed.HasField("tally")
    assert list(revision.done[0].targets) == ["h2"]


def test_splitting_replaces_one_by_children_with_fresh_ids() -> None:
    revision = _revision()
    assert revision.apply(_operation("split", ["h1"], ["Left.", "Right."]))
    assert _statuses(revision)["h1"] == SUPERSEDED
    children = revision.hypotheses[-2:]
    assert [c.id for c in children] == ["h5", "h6"]
    assert all(list(c.parents) == ["h1"] and c.created_round == 2 for c in children)
    assert revision.done[0].kind == pb.REVISION_KIND_SPLIT


def test_merging_replaces_several_by_one() -> None:
    revision = _revision()
    assert revision.apply(_operation("merge", ["h1", "h2"], ["Both."]))
    statuses = _statuses(revision)
    assert (statuses["h1"], statuses["h2"], statuses["h5"]) == (SUPERSEDED, SUPERSEDED, OPEN)
    assert list(revision.hypotheses[-1].parents) == ["h1", "h2"]


def test_rejecting_and_adding() -> None:
    revision = _revision()
    assert revision.apply(_operation("reject", ["h1"], []))
    assert revision.apply(_operation("add", [], ["New."]))
    assert _statuses(revision)["h1"] == REJECTED
    assert revision.hypotheses[0].rationale == "because"
    assert revision.hypotheses[-1].id == "h5"
    assert [op.kind for op in revision.done] == [pb.REVISION_KIND_REJECT, pb.REVISION_KIND_ADD]


@pytest.mark.parametrize(
    ("kind", "sources", "statements"),
    [
        ("refine", ["h3"], ["A verdict is not the model's to take."]),
        ("reject", ["h3"], []),
        ("merge", ["h1", "h3"], ["Both."]),
        ("refine", ["h4"], ["Out of play."]),
        ("refine", ["h99"], ["Unknown."]),
        ("refine", ["h1", "h2"], ["Two sources."]),
        ("refine", ["h1"], ["the  CLAIM of h1."]),
        ("split", ["h1"], ["Only one."]),
        ("merge", ["h1"], ["Only one."]),
        ("merge", ["h1", "h1"], ["Only one."]),
        ("reject", ["h1"], ["A target."]),
        ("reject", [], []),
        ("add", ["h1"], ["With a source."]),
        ("add", [], ["The claim of h4."]),
    ],
)
def test_an_unsound_operation_changes_nothing(kind, sources, statements) -> None:
    revision = _revision()
    before = [h.SerializeToString() for h in revision.hypotheses]
    assert not revision.apply(_operation(kind, sources, statements))
    assert [h.SerializeToString() for h in revision.hypotheses] == before
    assert not revision.done


def test_a_hypothesis_is_changed_by_one_operation_only() -> None:
    revision = _revision()
    assert revision.apply(_operation("reject", ["h1"], []))
    assert not revision.apply(_operation("refine", ["h1"], ["Again."]))


def test_there_is_no_room_for_endless_hypotheses() -> None:
    revision = _revision()
    added = [revision.apply(_operation("add", [], [f"New {n}."])) for n in range(MAX_OPEN + 3)]
    assert added.count(True) == MAX_OPEN - 1
    assert revision.apply(_operation("split", ["h1"], ["a", "b"])) is False


def test_the_request_is_left_as_it_was() -> None:
    run = state([hypothesis("h1")])
    Revision(run, EvidenceView.of(evidence())).apply(_operation("reject", ["h1"], []))
    assert run.hypotheses[0].status == OPEN
