"""Guards the refusals: a probe that repeats what is known can only confirm it. The
load-bearing checks are the ones that admit: a gate that refuses everything is useless."""

from __future__ import annotations

import pytest

from saexplain.common.v1 import experiment_pb2 as pb
from services.agent.explainers.probe_checks import (
    MAX_PROBE_BYTES,
    ProbeGate,
    next_hypothesis_number,
    word_distance,
    words,
)
from tests.agent.builders import evidence, hypothesis, result, state


def _gate(results=()) -> ProbeGate:
    dropped = hypothesis("h2", status=pb.HYPOTHESIS_STATUS_REFUTED)
    return ProbeGate(evidence(), state([hypothesis("h1", revision=3), dropped], results, round_=2))


def _draft(
    text: str, *, id_: str = "a", active: bool = True, owner: str = "h1", twin: str = ""
) -> pb.Probe:
    inactive = pb.PROBE_ROLE_MINIMAL_PAIR if twin else pb.PROBE_ROLE_BOUNDARY
    return pb.Probe(
        id=id_,
        hypothesis_id=owner,
        text=text,
        role=pb.PROBE_ROLE_POSITIVE if active else inactive,
        predicted_active=active,
        twin_probe_id=twin,
    )


def test_a_new_probe_is_admitted_numbered_and_tied_to_the_present_wording() -> None:
    admitted, refused = _gate().admit([_draft("Supper was almost ready.")])
    assert not refused
    assert (admitted[0].id, admitted[0].round, admitted[0].hypothesis_revision) == ("p2.1", 2, 3)


@pytest.mark.parametrize(
    ("draft", "reason"),
    [
        (_draft(" \n"), "empty"),
        (_draft("x" * (MAX_PROBE_BYTES + 1)), "too_long"),
        (_draft("é" * (MAX_PROBE_BYTES // 2 + 1)), "too_long"),
        (_draft("Fine.", owner="h9"), "unknown_hypothesis"),
        (_draft("Fine.", owner="h2"), "unknown_hypothesis"),
        (_draft("An earlier text."), "repeats_probe"),
        (_draft("An earlier text.", active=False), "contradiction"),
        (_draft("It was almost dark inside the old stone chapel"), "repeats_exemplar"),
        (_draft("it  was ALMOST dark inside the old stone chapel"), "repeats_exemplar"),
        (_draft("almost dark inside the old"), "repeats_exemplar"),
        (
            _draft("So he said: it was almost dark inside the old stone chapel, again."),
            "repeats_exemplar",
        ),
    ],
)
def test_a_useless_probe_is_refused_with_its_reason(draft: pb.Probe, reason: str) -> None:
    admitted, refused = _gate([result("p1.1", "h1", "An earlier text.")]).admit([draft])
    assert not admitted
    assert [r.reason for r in refused] == [reason]
    assert refused[0].hypothesis_id == draft.hypothesis_id


def test_a_text_is_admitted_once_among_the_drafts_too() -> None:
    admitted, refused = _gate().admit([_draft("Same.", id_="a"), _draft("Same.", id_="b")])
    assert len(admitted) == 1
    assert refused[0].reason == "repeats_probe"


def test_a_word_that_a_window_also_holds_is_no_copy() -> None:
    assert len(_gate().admit([_draft("almost dark")])[0]) == 1


def test_a_twin_within_three_words_is_admitted_and_names_its_partner() -> None:
    drafts = [
        _draft("Supper was almost ready.", id_="a"),
        _draft("Supper was never ready.", id_="b", active=False, twin="a"),
    ]
    admitted, _ = _gate().admit(drafts)
    assert admitted[1].twin_probe_id == admitted[0].id == "p2.1"
    assert admitted[1].role == pb.PROBE_ROLE_MINIMAL_PAIR


def test_a_twin_that_changes_more_is_refused() -> None:
    drafts = [
        _draft("Supper was almost ready.", id_="a"),
        _draft("Nobody had ever cooked there before.", id_="b", active=False, twin="a"),
    ]
    admitted, refused = _gate().admit(drafts)
    assert [p.id for p in admitted] == ["p2.1"]
    assert refused[0].reason == "twin_differs_too_much"


def test_a_twin_of_a_measured_probe_is_admitted() -> None:
    gate = _gate([result("p1.4", "h1", "Lunch was almost over.")])
    admitted, _ = gate.admit([_draft("Lunch was hardly over.", active=False, twin="p1.4")])
    assert admitted[0].twin_probe_id == "p1.4"


@pytest.mark.parametrize("twin", ["nobody", "c"])
def test_a_twin_without_an_active_partner_is_a_boundary(twin: str) -> None:
    """Also where the partner was refused: what it changes is not known to fire."""
    drafts = [_draft(" ", id_="c"), _draft("Supper is late.", id_="b", active=False, twin=twin)]
    admitted, _ = _gate().admit(drafts)
    assert admitted[0].role == pb.PROBE_ROLE_BOUNDARY
    assert admitted[0].twin_probe_id == ""


def test_drafts_are_not_changed() -> None:
    draft = _draft("Supper was almost ready.")
    _gate().admit([draft])
    assert draft.id == "a"


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [
        ("a b c", "a b c", 0),
        ("It was almost ten.", "It was not ten.", 1),
        ("one two", "two one", 2),
        ("", "a", 1),
        ("a b c d e", "v w x y z", 4),
    ],
)
def test_distance_counts_changed_words_up_to_the_limit(one, other, distance) -> None:
    assert word_distance(one, other, 3) == distance == word_distance(other, one, 3)


def test_words_joined_are_the_text() -> None:
    text = "It's 10:30, \n\tisn't it? «ok»"
    assert "".join(words(text)) == text


def test_ids_of_hypotheses_are_never_used_again() -> None:
    dropped = hypothesis("h7", status=pb.HYPOTHESIS_STATUS_REJECTED)
    assert next_hypothesis_number([hypothesis("h2"), dropped]) == 8
    assert next_hypothesis_number([]) == 1
