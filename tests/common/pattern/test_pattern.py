"""The evaluator of patterns. Load-bearing: the brute-force re-reading of pattern.proto in
`_expected`, against which random patterns on random byte tokens are checked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saexplain.common.v1 import pattern_pb2 as pb
from saexplain.common.v1.text_pb2 import TokenSpan
from saexplain.common.v1.window_pb2 import Window
from services.common.errors import InvalidArgument
from services.common.pattern import compile_pattern, describe, predict, predict_window, validate


def span(*tokens: str | bytes) -> TokenSpan:
    data = [t.encode() if isinstance(t, str) else t for t in tokens]
    return TokenSpan(token_ids=range(len(data)), token_bytes=data)


def literal(text: str | bytes, **flags: bool) -> pb.TokenMatcher:
    return pb.TokenMatcher(literal=text.encode() if isinstance(text, str) else text, **flags)


def of_class(token_class: pb.TokenClass.ValueType) -> pb.TokenMatcher:
    return pb.TokenMatcher(token_class=token_class)


def pattern_of(*rules: pb.PatternRule) -> pb.Pattern:
    return pb.Pattern(parts=[pb.PatternPart(label="part", rules=rules)])


def matched(matcher: pb.TokenMatcher, *tokens: str | bytes) -> list[bool]:
    shares = predict(pattern_of(pb.PatternRule(token=matcher, strength=1)), span(*tokens))
    return [bool(s) for s in shares]


def test_the_strongest_matching_rule_of_all_parts_decides() -> None:
    pattern = pb.Pattern(
        parts=[
            pb.PatternPart(rules=[pb.PatternRule(token=literal("a"), strength=0.25)]),
            pb.PatternPart(
                rules=[
                    pb.PatternRule(token=literal("a"), strength=0.75),
                    pb.PatternRule(token=literal("b"), strength=0.5),
                ]
            ),
        ]
    )
    shares = predict(pattern, span("a", "b", "c"))
    assert shares.dtype == np.float32 and shares.tolist() == [0.75, 0.5, 0]
    assert compile_pattern(pattern).predict_parts(span("a", "b")).tolist() == [
        [0.25, 0],
        [0.75, 0.5],
    ]


@pytest.mark.parametrize(
    ("matcher", "yes", "no"),
    [
        (literal(" the"), [" the"], ["the", " The", " them"]),
        (literal(" the", ignore_case=True), [" the", " THE"], ["the"]),
        (literal(" the", ignore_leading_space=True), [" the", "the"], ["  the", "The"]),
        (literal("é", ignore_case=True), ["É", "é"], ["e"]),
        (literal("ж", ignore_case=True), ["ж"], ["Ж"]),
        (pb.TokenMatcher(prefix=b"un"), ["undo", " undo"], ["  undo", "Undo", "run"]),
        (pb.TokenMatcher(prefix=b"un", ignore_case=True), ["Undo", " UNDO"], ["run"]),
        (pb.TokenMatcher(prefix=b" un", ignore_leading_space=True), ["undo", " undo"], ["  undo"]),
        (pb.TokenMatcher(suffix=b"ing"), ["ing", " going"], ["goings", "ING"]),
        (of_class(pb.TOKEN_CLASS_ANY), ["x", b"\xe2", ""], []),
        (of_class(pb.TOKEN_CLASS_DIGITS), ["1", " 23", "٣"], ["1a", " ", "", "1.", "²"]),
        (
            of_class(pb.TOKEN_CLASS_CAPITALIZED),
            ["The", " A", "Élan"],
            ["tHe", "NATO", "the", "It's"],
        ),
        (of_class(pb.TOKEN_CLASS_UPPER_CASE), ["NATO", " EU"], ["A", "Nato", "N1"]),
        (
            of_class(pb.TOKEN_CLASS_PUNCTUATION),
            [".", " (", "—", "$", "..."],
            ["", " ", "a.", b"\xe2\x80"],
        ),
        (of_class(pb.TOKEN_CLASS_WHITESPACE), [" ", "\t ", "   "], ["", " a", "\n", " \n"]),
        (of_class(pb.TOKEN_CLASS_LINE_BREAK), ["\n", "\n  ", "a\r\n"], [" ", "a"]),
    ],
)
def test_each_matcher_takes_what_the_contract_says(
    matcher: pb.TokenMatcher, yes: list[str | bytes], no: list[str | bytes]
) -> None:
    assert matched(matcher, *yes, *no) == [True] * len(yes) + [False] * len(no)


def test_a_fragment_of_a_character_matches_only_itself() -> None:
    """Decoding with replacement would make all fragments equal, and symbols."""
    first, second = "é".encode()[:1], "é".encode()[1:]
    assert matched(literal(first, ignore_case=True), first, second, "\ufffd") == [
        True,
        False,
        False,
    ]


def test_a_line_starts_behind_a_break_and_at_the_head_of_a_context_only() -> None:
    matcher = of_class(pb.TOKEN_CLASS_LINE_START)
    pattern = pattern_of(pb.PatternRule(token=matcher, strength=1))
    assert predict(pattern, span("a", "\n", "b", "c")).tolist() == [1, 0, 1, 0]
    assert predict(pattern, span("a"), span("\n")).tolist() == [1]
    assert predict(pattern, span("a"), span("x"), 40).tolist() == [0]
    assert predict(pattern, span("a"), None, 40).tolist() == [0], "what stands before is unknown"


def test_the_start_of_a_context_is_four_tokens_wherever_the_window_begins() -> None:
    pattern = pattern_of(pb.PatternRule(token=of_class(pb.TOKEN_CLASS_CONTEXT_START), strength=1))
    assert predict(pattern, span(*"abcdef")).tolist() == [1, 1, 1, 1, 0, 0]
    assert predict(pattern, span(*"cdef"), span(*"ab")).tolist() == [1, 1, 0, 0]
    assert predict(pattern, span(*"ab"), None, 32).tolist() == [0, 0]


def test_the_rest_of_a_cut_word_follows_a_letter() -> None:
    matcher = of_class(pb.TOKEN_CLASS_WORD_CONTINUATION)
    assert matched(matcher, "un", "likely", " like", "ly", ".", "ly", "1", "st") == [
        *(False, True, False, True, False, False, False, False)
    ]


def test_left_conditions_reach_into_the_left_context_and_no_farther_than_told() -> None:
    condition = pb.LeftCondition(max_distance=2, any_of=[literal("x"), literal("y")])
    pattern = pattern_of(pb.PatternRule(token=literal("a"), left=[condition], strength=1))
    assert predict(pattern, span("a", "a", "a"), span("x")).tolist() == [1, 1, 0]
    assert predict(pattern, span("x", "b", "a", "a", "y", "a")).tolist() == [0, 0, 1, 0, 0, 1]


def test_a_negated_condition_holds_where_nothing_matches_and_all_must_hold() -> None:
    within = pb.LeftCondition(max_distance=3, any_of=[literal("x")])
    without = pb.LeftCondition(max_distance=1, any_of=[literal("y")], negated=True)
    pattern = pattern_of(pb.PatternRule(token=literal("a"), left=[within, without], strength=1))
    assert predict(pattern, span("a", "x", "a", "y", "a")).tolist() == [0, 0, 1, 0, 0]
    alone = pattern_of(pb.PatternRule(token=literal("a"), left=[without], strength=1))
    assert predict(alone, span("a", "y", "a")).tolist() == [1, 0, 0], (
        "nothing stands before the first"
    )


def test_a_window_brings_its_left_context_and_position() -> None:
    condition = pb.LeftCondition(max_distance=1, any_of=[literal("of")])
    pattern = pattern_of(pb.PatternRule(token=literal(" the"), left=[condition], strength=0.5))
    window = Window(tokens=span(" the"), left_context=span("of"), context_position=33)
    assert predict_window(pattern, window).tolist() == [0.5]


def test_a_left_context_longer_than_its_context_is_refused() -> None:
    with pytest.raises(ValueError, match="context_position"):
        predict(pattern_of(pb.PatternRule(token=literal("a"))), span("a"), span("b", "c"), 1)


_TOKENS = [b"a", b" a", b"A", b"ab", b" AB", b"1", b"\n", b".", b"\xe2", b" ", b"\xc3\xa9"]
_MATCHERS = st.one_of(
    st.builds(
        pb.TokenMatcher,
        literal=st.sampled_from(_TOKENS),
        ignore_case=st.booleans(),
        ignore_leading_space=st.booleans(),
    ),
    st.builds(pb.TokenMatcher, token_class=st.sampled_from(range(1, 11))),
    st.builds(pb.TokenMatcher, prefix=st.sampled_from([b"a", b"A"]), ignore_case=st.booleans()),
    st.builds(pb.TokenMatcher, suffix=st.sampled_from([b"b", b"\n"])),
)
_CONDITIONS = st.builds(
    pb.LeftCondition,
    max_distance=st.integers(1, 4),
    any_of=st.lists(_MATCHERS, min_size=1, max_size=2),
    negated=st.booleans(),
)
_RULES = st.builds(
    pb.PatternRule,
    token=_MATCHERS,
    left=st.lists(_CONDITIONS, max_size=2),
    strength=st.sampled_from([0.25, 0.5, 1.0]),
)


def _takes(matcher: pb.TokenMatcher, tokens: list[bytes], i: int, position: int) -> bool:
    token, before = tokens[i], tokens[i - 1] if i else None
    if matcher.WhichOneof("kind") != "token_class":
        return matched(matcher, token)[0]
    if matcher.token_class == pb.TOKEN_CLASS_LINE_START:
        return (
            position == 0 if before is None and i == 0 else before is not None and b"\n" in before
        )
    if matcher.token_class == pb.TOKEN_CLASS_CONTEXT_START:
        return position + i < 4
    if matcher.token_class == pb.TOKEN_CLASS_WORD_CONTINUATION:
        word = token.decode(errors="replace").isalpha()
        return word and before is not None and before.decode(errors="replace")[-1:].isalpha()
    return matched(matcher, token)[0]


def _expected(
    rules: list[pb.PatternRule], tokens: list[bytes], begin: int, first: int
) -> list[float]:
    shares = []
    for i in range(begin, len(tokens)):
        best = 0.0
        for rule in rules:
            holds = _takes(rule.token, tokens, i, first)
            for c in rule.left:
                places = range(max(i - c.max_distance, 0), i)
                found = any(_takes(m, tokens, j, first) for j in places for m in c.any_of)
                holds = holds and found != c.negated
            best = max(best, rule.strength if holds else 0.0)
        shares.append(best)
    return shares


@settings(deadline=None, max_examples=150)
@given(
    rules=st.lists(_RULES, min_size=1, max_size=4),
    left=st.lists(st.sampled_from(_TOKENS), max_size=5),
    tokens=st.lists(st.sampled_from(_TOKENS), min_size=1, max_size=8),
    unseen=st.sampled_from([0, 2, 30]),
)
def test_predictions_equal_a_literal_reading_of_the_contract(
    rules: list[pb.PatternRule], left: list[bytes], tokens: list[bytes], unseen: int
) -> None:
    shares = predict(pattern_of(*rules), span(*tokens), span(*left), unseen + len(left))
    assert shares.tolist() == _expected(rules, [*left, *tokens], len(left), unseen)


@pytest.mark.parametrize(
    ("pattern", "field"),
    [
        (pb.Pattern(), "pattern.parts"),
        (pb.Pattern(parts=[pb.PatternPart()]), "pattern.parts[0].rules"),
        (pb.Pattern(parts=[pb.PatternPart()] * 6), "pattern.parts"),
        (pattern_of(*[pb.PatternRule(token=literal("a"))] * 21), "pattern.parts[0].rules"),
        (pattern_of(pb.PatternRule()), "pattern.parts[0].rules[0].token"),
        (pattern_of(pb.PatternRule(token=literal(""))), "pattern.parts[0].rules[0].token.literal"),
        (
            pattern_of(pb.PatternRule(token=pb.TokenMatcher(token_class=0))),
            "pattern.parts[0].rules[0].token.token_class",
        ),
        *(
            (
                pattern_of(pb.PatternRule(token=literal("a"), strength=s)),
                "pattern.parts[0].rules[0].strength",
            )
            for s in (-0.1, 2.1, float("nan"), float("inf"))
        ),
        (
            pattern_of(
                pb.PatternRule(token=literal("a"), left=[pb.LeftCondition(any_of=[literal("a")])])
            ),
            "pattern.parts[0].rules[0].left[0].max_distance",
        ),
        (
            pattern_of(pb.PatternRule(token=literal("a"), left=[pb.LeftCondition(max_distance=1)])),
            "pattern.parts[0].rules[0].left[0].any_of",
        ),
    ],
)
def test_what_means_nothing_is_refused_with_its_field(pattern: pb.Pattern, field: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        validate(pattern)
    assert field in [v.field for v in error.value.violations]
    with pytest.raises(InvalidArgument):
        predict(pattern, span("a"))


def test_a_description_shows_whitespace_conditions_and_strengths() -> None:
    """A reader must be able to tell ` the` from `the`."""
    condition = pb.LeftCondition(max_distance=1, any_of=[literal(" of"), literal("\n")])
    without = pb.LeftCondition(
        max_distance=5, any_of=[of_class(pb.TOKEN_CLASS_DIGITS)], negated=True
    )
    text = describe(
        pb.Pattern(
            parts=[
                pb.PatternPart(
                    label="articles",
                    rules=[
                        pb.PatternRule(
                            token=literal(" the"), left=[condition, without], strength=0.5
                        ),
                        pb.PatternRule(token=literal(b"\xe2\t", ignore_case=True), strength=0.25),
                    ],
                ),
                pb.PatternPart(
                    rules=[pb.PatternRule(token=pb.TokenMatcher(suffix=b"ly"), strength=1)]
                ),
            ]
        )
    )
    assert text == (
        "1. articles: fires on “␣the”, if “␣of” or “↵” stands right before it and a number (digits "
        "only) does not stand within 5 tokens before it (about 50% of the maximum); “\\xE2⇥” (in "
        "any case) (about 25% of the maximum).\n"
        "2. Fires on a token ending in “ly” (about 100% of the maximum)."
    )
