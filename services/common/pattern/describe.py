"""A pattern in plain English, with whitespace made visible."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from saexplain.common.v1.pattern_pb2 import (
    TOKEN_CLASS_ANY,
    TOKEN_CLASS_CAPITALIZED,
    TOKEN_CLASS_CONTEXT_START,
    TOKEN_CLASS_DIGITS,
    TOKEN_CLASS_LINE_BREAK,
    TOKEN_CLASS_LINE_START,
    TOKEN_CLASS_PUNCTUATION,
    TOKEN_CLASS_UPPER_CASE,
    TOKEN_CLASS_WHITESPACE,
    TOKEN_CLASS_WORD_CONTINUATION,
    LeftCondition,
    Pattern,
    PatternPart,
    PatternRule,
    TokenClass,
    TokenMatcher,
)
from services.common.pattern.tokens import text_of

_VISIBLE = {" ": "␣", "\n": "↵", "\r": "␍", "\t": "⇥"}
_CLASSES: Mapping[TokenClass.ValueType, str] = {
    TOKEN_CLASS_ANY: "any token",
    TOKEN_CLASS_DIGITS: "a number (digits only)",
    TOKEN_CLASS_CAPITALIZED: "a capitalized word",
    TOKEN_CLASS_UPPER_CASE: "a word in capitals",
    TOKEN_CLASS_PUNCTUATION: "punctuation",
    TOKEN_CLASS_WHITESPACE: "spaces or tabs",
    TOKEN_CLASS_LINE_BREAK: "a line break",
    TOKEN_CLASS_LINE_START: "the first token of a line",
    TOKEN_CLASS_CONTEXT_START: "one of the first four tokens of a text",
    TOKEN_CLASS_WORD_CONTINUATION: "the rest of a word that the tokenizer cut",
}
_DISTANCES = {1: "right before", 2: "one or two tokens before"}


def visible(token: bytes) -> str:
    """The token with whitespace drawn and bytes that are not UTF-8 written as `\\xE2`."""
    return "".join(map(_visible_character, text_of(token)))


def _visible_character(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02X}"
    if character in _VISIBLE:
        return _VISIBLE[character]
    return character if character.isprintable() else f"\\u{ord(character):04X}"


def matcher_text(matcher: TokenMatcher) -> str:
    """A matcher in a few words, such as `“␣almost”` or `a number (digits only)`."""
    kind = matcher.WhichOneof("kind")
    if kind == "token_class":
        return _CLASSES[matcher.token_class]
    quoted = f"“{visible(getattr(matcher, str(kind)))}”"
    stem = {"prefix": "a token beginning with ", "suffix": "a token ending in "}.get(str(kind), "")
    return f"{stem}{quoted}{_folding(matcher)}"


def _folding(matcher: TokenMatcher) -> str:
    notes = []
    if matcher.ignore_case:
        notes.append("in any case")
    if matcher.ignore_leading_space:
        notes.append("with or without a leading space")
    return f" ({', '.join(notes)})" if notes else ""


def describe(pattern: Pattern) -> str:
    """The pattern as readable English, one numbered paragraph per part where there are
    several. Strengths are shares of the reference maximum."""
    parts = [describe_part(part) for part in pattern.parts]
    if len(parts) == 1:
        return parts[0]
    return "\n".join(f"{number}. {text}" for number, text in enumerate(parts, 1))


def describe_part(part: PatternPart) -> str:
    """One part: its label, then its rules, those under the same condition together."""
    ordered = sorted(part.rules, key=_condition_key)
    groups = [list(rules) for _, rules in groupby(ordered, key=_condition_key)]
    groups.sort(key=lambda rules: -max(rule.strength for rule in rules))
    clauses = "; ".join(map(_clause, groups))
    return f"{part.label}: fires on {clauses}." if part.label else f"Fires on {clauses}."


def _condition_key(rule: PatternRule) -> tuple[bytes, ...]:
    return tuple(c.SerializeToString(deterministic=True) for c in rule.left)


def _clause(rules: Sequence[PatternRule]) -> str:
    ranked = sorted(rules, key=lambda rule: -rule.strength)
    tokens = _listed([matcher_text(rule.token) for rule in ranked], "or")
    conditions = _listed([_condition(c) for c in ranked[0].left], "and")
    where = f", if {conditions}" if conditions else ""
    return f"{tokens}{where} ({_strengths([rule.strength for rule in ranked])})"


def _condition(condition: LeftCondition) -> str:
    distance = _DISTANCES.get(
        condition.max_distance, f"within {condition.max_distance} tokens before"
    )
    tokens = _listed([matcher_text(m) for m in condition.any_of], "or")
    return f"{tokens} {'does not stand' if condition.negated else 'stands'} {distance} it"


def _strengths(shares: Sequence[float]) -> str:
    low, high = f"{min(shares):.0%}", f"{max(shares):.0%}"
    span = low if low == high else f"{low} to {high}"
    return f"about {span} of the maximum"


def _listed(items: Iterable[str], last: str) -> str:
    words = list(items)
    if len(words) <= 1:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"
