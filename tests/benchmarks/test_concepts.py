"""The planted concepts stay what they were before anything was fitted to them. Guards against
a concept that is bent, after a bad figure, towards what the rule language can say."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.planted import concepts
from benchmarks.planted.concepts import CONCEPTS
from services.common.pattern import validate

FROZEN_SHA256 = "b7066b7cfccab21bb46baac2f64072fefbc12316fa44cf6b4f97b3d90381ac94"


def test_the_concepts_are_those_that_were_frozen() -> None:
    """Whoever edits them changes this digest too, and says why in the commit."""
    source = Path(concepts.__file__).read_bytes()
    assert hashlib.sha256(source).hexdigest() == FROZEN_SHA256


def test_there_are_as_many_of_each_family_as_promised() -> None:
    assert Counter(c.family for c in CONCEPTS) == {
        "language": 8,
        "context": 8,
        "union": 4,
        "outside": 4,
    }
    assert len({c.name for c in CONCEPTS}) == len(CONCEPTS)


def test_hand_written_rules_are_valid_patterns_and_others_have_none() -> None:
    for concept in CONCEPTS:
        expressible = concept.family in ("language", "union")
        assert (concept.pattern is not None) == expressible
        if concept.pattern is not None:
            validate(concept.pattern)


# A text in tokens, with the tokens at which the concept holds in brackets.
CASES = {
    "modal verbs": "I| [would]| see| it",
    "that after saying or knowing": "he| said| [that]| the| one| that",
    "capitalised after the": "in| the| [King]| of| the| sea",
    "is not after a pronoun": "It| is| a| day| [was]",
    "I within a quotation": 'I| say|,| "|you| and| [me]|,"| he| told| me',
    "third item": "red|,| green|,| and| [blue]|.",
    "second mention": "saw| Rome| and| [Rome]| and| Rome",
    "long parenthesis": "see| (|the| first| [one]| [here]|)",
    "in a question": "Who| has| seen| my| [old]| [hat]|?",
    "far bracket": "(|a| b| c| d| e|[)]| (|a|)",
    "not or -ly": "he| does| [not]| [really]| go",
    "auxiliary of a plural": "the| men| [will]| and| she| will",
    "even sentence": "one| two| three| four|[.]| one| two| three|.",
    "gloomy sentence": "a| bad| death|[.]| a| good| day|.",
    "object of a verb": "he| took| the| old| [hat]| from| it",
}


@pytest.mark.parametrize("name", CASES)
def test_a_concept_holds_where_its_meaning_says(name: str) -> None:
    """Examples by hand: a label that is off by one token plants another feature."""
    pieces = CASES[name].split("|")
    tokens = [piece.replace("[", "").replace("]", "").encode() for piece in pieces]
    concept = next(c for c in CONCEPTS if c.name == name)
    assert concept.holds(tokens).tolist() == ["[" in piece for piece in pieces]
