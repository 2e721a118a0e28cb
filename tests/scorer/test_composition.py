"""Texts composed from patterns: what they claim has to be true of the tokens they are made
of, whatever kind of rule they come from."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from saexplain.common.v1.pattern_pb2 import (
    TOKEN_CLASS_ANY,
    TOKEN_CLASS_CAPITALIZED,
    TOKEN_CLASS_CONTEXT_START,
    TOKEN_CLASS_DIGITS,
    TOKEN_CLASS_LINE_START,
    TOKEN_CLASS_PUNCTUATION,
    TOKEN_CLASS_WORD_CONTINUATION,
    LeftCondition,
    Pattern,
    PatternPart,
    PatternRule,
    TokenMatcher,
)
from services.common.pattern import predict
from services.scorer.composition import CARRIER_TOKENS, Composer, claim_threshold
from services.scorer.vocabulary import Vocabulary
from tests.scorer import world

SENTENCES = [
    b"the| cat| sat| on| the| mat|,| then| it| slept| for| 20| minutes|.",
    b" a| dog| in| Paris| bark|ed| all| day|;| the| town| had| 300| dogs|.",
    b"\n|We| almost| won|,| said| Anna|,| but| rain| came| at| 7|.| The| end",
    b" tall|er| trees| and| small|er| ones| grow| in| London| near| the| river",
    b" not| one| word| was| lost| when| they| counted| 15| of| them| here|!",
    b" she| would| have| gone| virtually| any| where| to| see| it| once| more",
]
WINDOWS = [s.split(b"|") for s in SENTENCES]


def pattern(token: TokenMatcher, *left: LeftCondition, strength: float = 1.0) -> Pattern:
    rule = PatternRule(token=token, left=left, strength=strength)
    return Pattern(parts=[PatternPart(rules=[rule])])


def literal(text: bytes, **options) -> TokenMatcher:
    return TokenMatcher(literal=text, **options)


def left(text: bytes, distance: int = 3, negated: bool = False) -> LeftCondition:
    return LeftCondition(max_distance=distance, any_of=[literal(text)], negated=negated)


RULES = {
    "literal": pattern(literal(b" almost")),
    "any case and spacing": pattern(literal(b"paris", ignore_case=True, ignore_leading_space=True)),
    "prefix": pattern(TokenMatcher(prefix=b"virt")),
    "suffix": pattern(TokenMatcher(suffix=b"er")),
    "digits": pattern(TokenMatcher(token_class=TOKEN_CLASS_DIGITS)),
    "capitalized": pattern(TokenMatcher(token_class=TOKEN_CLASS_CAPITALIZED)),
    "punctuation": pattern(TokenMatcher(token_class=TOKEN_CLASS_PUNCTUATION)),
    "line start": pattern(TokenMatcher(token_class=TOKEN_CLASS_LINE_START)),
    "context start": pattern(TokenMatcher(token_class=TOKEN_CLASS_CONTEXT_START)),
    "word continuation": pattern(TokenMatcher(token_class=TOKEN_CLASS_WORD_CONTINUATION)),
    "left": pattern(literal(b" cat"), left(b" the")),
    "not left": pattern(literal(b" cat"), left(b" the", 1, negated=True)),
    "weak": pattern(literal(b" cat"), strength=0.3),
    "any after": pattern(TokenMatcher(token_class=TOKEN_CLASS_ANY), left(b" Paris", 1)),
}


def composer(seed: int = 1) -> Composer:
    return Composer(WINDOWS, Vocabulary(WINDOWS), seed)


def cut(text: str) -> list[bytes]:
    """The text's tokens: words with their space, in two pieces where the second is known to
    follow the first, numbers, and single other characters."""
    pairs = {a + b: [a, b] for w in WINDOWS for a, b in pairwise(w) if b.isalpha()}
    words = re.findall(rb" ?[A-Za-z]+| ?\d+|.", text.encode(), re.DOTALL)
    return [token for word in words for token in pairs.get(word, [word])]


@pytest.mark.parametrize("name", RULES)
def test_positives_are_claimed_by_their_pattern(name):
    """Guards against a kind of rule that nothing can be written for, and texts that do not
    hold what they were written for once they are cut into tokens again."""
    texts = composer().positives(RULES[name], 6)
    assert len(texts) >= 3
    assert len(set(texts)) == len(texts)
    threshold = claim_threshold(RULES[name])
    claimed = [predict(RULES[name], world.span(cut(t))).max() >= threshold for t in texts]
    assert sum(claimed) >= len(texts) - 1


@pytest.mark.parametrize("name", set(RULES) - {"context start", "line start"})
def test_boundaries_are_not_claimed(name):
    """Guards against near misses that are hits."""
    texts = composer().boundaries(RULES[name], 6)
    assert texts
    threshold = claim_threshold(RULES[name])
    assert all(predict(RULES[name], world.span(cut(t))).max() < threshold for t in texts)


def test_boundaries_break_the_condition_or_bend_the_token():
    """Guards against boundaries that have nothing to do with the rule: either its token
    without its condition, or a near variant under the condition."""
    texts = composer().boundaries(RULES["left"], 8)
    broken = [t for t in texts if " cat" in t]
    bent = [t for t in texts if " the" in t and " cat" not in t]
    assert broken and bent
    variants = composer().boundaries(pattern(literal(b" almost")), 4)
    assert any(" ALMOST" in t or " Almost" in t for t in variants)


def test_texts_are_carriers_of_probe_length():
    """Guards against texts that carry more corpus than probe."""
    for text in composer().positives(RULES["literal"], 6):
        assert len(cut(text)) <= CARRIER_TOKENS + 2 and " almost" in text


def test_a_pattern_that_takes_everything_has_no_boundary():
    """Guards against an endless search, and boundaries that are claimed."""
    everything = pattern(TokenMatcher(token_class=TOKEN_CLASS_ANY))
    assert composer().boundaries(everything, 5) == []
    assert composer().positives(everything, 5)


def test_the_parts_take_turns():
    """Guards against texts of the strongest part only."""
    two = Pattern(parts=[*RULES["literal"].parts, *RULES["digits"].parts])
    texts = composer().positives(two, 6)
    assert sum(" almost" in t for t in texts) in (3, 4)


def test_the_same_seed_writes_the_same_texts():
    """Guards against hidden randomness."""
    again = [composer(4).positives(RULES["suffix"], 5) for _ in range(2)]
    assert again[0] == again[1] != composer(5).positives(RULES["suffix"], 5)


def test_without_carriers_nothing_is_written():
    """Guards against texts made of nothing but the trigger."""
    assert Composer([], Vocabulary(WINDOWS), 0).positives(RULES["literal"], 5) == []


def test_pieces_of_words_are_spelled_with_their_word():
    """Guards against a suffix token put behind a space, which is cut into other tokens."""
    vocabulary = Vocabulary(WINDOWS)
    assert vocabulary.spelled(b"er") == [b" tall", b"er"]
    assert vocabulary.spelled(b" cat") == [b" cat"]
    assert vocabulary.spelled(b"unseen") == [b"unseen"]
