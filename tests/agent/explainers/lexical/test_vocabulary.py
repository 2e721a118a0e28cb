"""Tables of spellings answer as `matches_locally` does, token by token: a shortcut that takes
another token than the evaluator would fit a rule that is never scored."""

from __future__ import annotations

import itertools

import pytest

from saexplain.common.v1.pattern_pb2 import TokenClass, TokenMatcher
from services.agent.explainers.lexical.vocabulary import Vocabulary
from services.common.pattern.tokens import LOCAL_CLASSES, matches_locally

TEXTS = (
    *("word", " word", " Word", "WORD", "  word", " words", "sword", " ", "\n", " \n", "7"),
    *(" 7", "-ing", "ing", " Ing", "Ärger", "ärger", " ÄRGER", "İ", "i̇", "…", "ﬁ"),
)
TOKENS = [*sorted(t.encode() for t in TEXTS), b"\xe2\x80", b" \xe2", b"\xff"]


def matchers() -> list[TokenMatcher]:
    found = [TokenMatcher(token_class=c) for c in LOCAL_CLASSES]
    texts = [b"word", b" word", b"WORD", b"ing", "ärger".encode(), b" ", b"\xe2", b"w"]
    for kind, text, case, space in itertools.product(
        ("literal", "prefix", "suffix"), texts, (False, True), (False, True)
    ):
        found.append(TokenMatcher(**{kind: text}, ignore_case=case, ignore_leading_space=space))
    return found


@pytest.mark.parametrize("matcher", matchers(), ids=str)
def test_a_matcher_takes_the_tokens_that_the_evaluator_takes(matcher: TokenMatcher) -> None:
    vocabulary = Vocabulary(TOKENS)
    expected = [matches_locally(matcher, token) for token in TOKENS]
    assert vocabulary.mask(matcher).tolist() == [*expected, False]
    assert vocabulary.ids(matcher).tolist() == [i for i, hit in enumerate(expected) if hit]


def test_every_kind_of_answer_was_met() -> None:
    """The negative control: matchers that take nothing would agree whatever the code did."""
    sizes = {len(Vocabulary(TOKENS).ids(m)) for m in matchers()}
    assert {0, 1, 2, 3, len(TOKENS)} <= sizes
    assert len(TokenClass.values()) > len(LOCAL_CLASSES)
