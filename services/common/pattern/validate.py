"""Refuses patterns that mean nothing or are too large, naming every wrong field."""

from __future__ import annotations

import math
from collections.abc import Iterator

from saexplain.common.v1.pattern_pb2 import (
    LeftCondition,
    Pattern,
    PatternPart,
    PatternRule,
    TokenClass,
    TokenMatcher,
)
from services.common.errors import FieldViolation, InvalidArgument

MAX_PARTS = 5
MAX_RULES_PER_PART = 20
MAX_LEFT_CONDITIONS = 4
MAX_ALTERNATIVES = 64
MAX_DISTANCE = 64
MAX_MATCHER_BYTES = 256
MAX_STRENGTH = 2.0


def validate(pattern: Pattern, field: str = "pattern") -> None:
    """Checks a pattern against the limits of pattern.proto and of this module.

    Raises:
        InvalidArgument: with one violation per wrong field.
    """
    violations = tuple(_pattern(pattern, field))
    if violations:
        first = violations[0]
        raise InvalidArgument(f"{first.field}: {first.description}", violations=violations)


def _pattern(pattern: Pattern, field: str) -> Iterator[FieldViolation]:
    yield from _count(len(pattern.parts), MAX_PARTS, f"{field}.parts")
    for i, part in enumerate(pattern.parts[:MAX_PARTS]):
        yield from _part(part, f"{field}.parts[{i}]")


def _part(part: PatternPart, field: str) -> Iterator[FieldViolation]:
    yield from _count(len(part.rules), MAX_RULES_PER_PART, f"{field}.rules")
    for i, rule in enumerate(part.rules[:MAX_RULES_PER_PART]):
        yield from _rule(rule, f"{field}.rules[{i}]")


def _rule(rule: PatternRule, field: str) -> Iterator[FieldViolation]:
    yield from _matcher(rule.token, f"{field}.token")
    if not (math.isfinite(rule.strength) and 0 <= rule.strength <= MAX_STRENGTH):
        yield FieldViolation(f"{field}.strength", f"must be in [0, {MAX_STRENGTH:g}]")
    if rule.support < 0:
        yield FieldViolation(f"{field}.support", "must be >= 0")
    if len(rule.left) > MAX_LEFT_CONDITIONS:
        yield FieldViolation(f"{field}.left", f"holds more than {MAX_LEFT_CONDITIONS} entries")
    for i, condition in enumerate(rule.left[:MAX_LEFT_CONDITIONS]):
        yield from _condition(condition, f"{field}.left[{i}]")


def _condition(condition: LeftCondition, field: str) -> Iterator[FieldViolation]:
    if not 1 <= condition.max_distance <= MAX_DISTANCE:
        yield FieldViolation(f"{field}.max_distance", f"must be in [1, {MAX_DISTANCE}]")
    yield from _count(len(condition.any_of), MAX_ALTERNATIVES, f"{field}.any_of")
    for i, matcher in enumerate(condition.any_of[:MAX_ALTERNATIVES]):
        yield from _matcher(matcher, f"{field}.any_of[{i}]")


def _matcher(matcher: TokenMatcher, field: str) -> Iterator[FieldViolation]:
    kind = matcher.WhichOneof("kind")
    if kind is None:
        yield FieldViolation(field, "names no way of matching")
    elif kind == "token_class":
        if not matcher.token_class or matcher.token_class not in TokenClass.values():
            yield FieldViolation(f"{field}.token_class", "is not a known class")
    else:
        size = len(getattr(matcher, kind))
        if not 1 <= size <= MAX_MATCHER_BYTES:
            yield FieldViolation(f"{field}.{kind}", f"must hold 1 to {MAX_MATCHER_BYTES} bytes")


def _count(count: int, limit: int, field: str) -> Iterator[FieldViolation]:
    if count == 0:
        yield FieldViolation(field, "must not be empty")
    elif count > limit:
        yield FieldViolation(field, f"holds {count} entries, at most {limit} are allowed")
