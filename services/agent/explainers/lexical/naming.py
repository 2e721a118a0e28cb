"""Names for parts and whole explanations: short, for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from saexplain.common.v1.pattern_pb2 import (
    TOKEN_CLASS_ANY,
    LeftCondition,
    Pattern,
    PatternPart,
    PatternRule,
    TokenMatcher,
)
from services.common.pattern import matcher_text, visible
from services.common.pattern.tokens import text_of, without_leading_space

MAX_LABEL_LENGTH = 100
_MAX_NAMED = 4


def part_label(part: PatternPart) -> str:
    """A few words for a part, such as `“almost”, “nearly” (as words)`."""
    return _cut(_rules_label(list(part.rules), _MAX_NAMED))


def pattern_label(pattern: Pattern) -> str:
    """A few words for a whole pattern, its strongest parts first."""
    if len(pattern.parts) == 1:
        return part_label(pattern.parts[0])
    named = max(1, _MAX_NAMED // len(pattern.parts) + 1)
    return _cut("; ".join(_rules_label(list(part.rules), named) for part in pattern.parts))


def _rules_label(rules: Sequence[PatternRule], named: int) -> str:
    """Tokens under the same conditions together, in the order of the rules."""
    groups: dict[tuple[str, ...], list[TokenMatcher]] = {}
    for rule in rules:
        groups.setdefault(tuple(map(_condition, rule.left)), []).append(rule.token)
    pieces = [
        " ".join([_tokens(matchers, named), " and ".join(conditions)]).rstrip()
        for conditions, matchers in groups.items()
    ]
    more = f" and {len(pieces) - named} more" if len(pieces) > named else ""
    return f"{', '.join(pieces[:named])}{more}"


def _tokens(matchers: Sequence[TokenMatcher], named: int) -> str:
    names = list(dict.fromkeys(_name(m) for m in matchers))
    more = f" and {len(names) - named} more" if len(names) > named else ""
    words = " (as words)" if all(map(_is_word, matchers)) else ""
    return f"{', '.join(names[:named])}{more}{words}"


def _is_word(matcher: TokenMatcher) -> bool:
    """Whether the matcher is a literal that begins a word, so that its leading space need
    not be drawn."""
    literal = matcher.literal
    bare = text_of(without_leading_space(literal))
    return bare.isalpha() and (literal[:1] == b" " or matcher.ignore_leading_space)


def _name(matcher: TokenMatcher) -> str:
    if matcher.WhichOneof("kind") != "literal":
        return matcher_text(matcher)
    token = matcher.literal
    return f"“{visible(without_leading_space(token) if _is_word(matcher) else token)}”"


def _condition(condition: LeftCondition) -> str:
    where = "after" if condition.max_distance == 1 else "soon after"
    if condition.negated:
        where = f"not {where}"
    matchers = list(condition.any_of)
    if [m.token_class for m in matchers] == [TOKEN_CLASS_ANY]:
        return f"{where} anything"
    return f"{where} {_either(matchers)}"


def _either(matchers: Sequence[TokenMatcher]) -> str:
    names: Iterable[str] = (_name(m) for m in matchers[:2])
    more = " …" if len(matchers) > 2 else ""
    return " or ".join(names) + more


def _cut(text: str) -> str:
    if len(text) <= MAX_LABEL_LENGTH:
        return text
    return text[: MAX_LABEL_LENGTH - 1].rstrip() + "…"
