"""From a flat rule set to parts: rules that stand for the same trigger, together.

Rules belong together if their tokens are spellings of one word, embedding neighbours, or
of one class, or if they are about the same tokens to the left. A group that does not by
itself find enough of the active windows is no pattern of its own and is put with others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from saexplain.activation.v1.activation_pb2 import TokenNeighbors
from saexplain.common.v1.pattern_pb2 import (
    TOKEN_CLASS_ANY,
    TOKEN_CLASS_DIGITS,
    TOKEN_CLASS_LINE_BREAK,
    TOKEN_CLASS_PUNCTUATION,
    TOKEN_CLASS_WHITESPACE,
    PatternPart,
    PatternRule,
    TokenMatcher,
)
from services.agent.explainers.lexical.measures import part_measures
from services.agent.explainers.lexical.naming import part_label
from services.agent.explainers.lexical.occurrences import Occurrences
from services.common.pattern.tokens import (
    LOCAL_CLASSES,
    fold_case,
    in_local_class,
    without_leading_space,
)
from services.common.pattern.validate import MAX_PARTS, MAX_RULES_PER_PART

MIN_RECALL, MIN_PRECISION = 0.05, 0.5
"""What a group needs to be a part of its own (method, section 1)."""

_SHAPES = frozenset(
    (TOKEN_CLASS_DIGITS, TOKEN_CLASS_PUNCTUATION, TOKEN_CLASS_WHITESPACE, TOKEN_CLASS_LINE_BREAK)
)
_TELLING = frozenset(LOCAL_CLASSES) - {TOKEN_CLASS_ANY}


def group(
    occurrences: Occurrences,
    rules: Sequence[PatternRule],
    neighbors: Iterable[TokenNeighbors],
    max_parts: int = MAX_PARTS,
) -> list[PatternPart]:
    """Parts over the rules, strongest first. Rules beyond the limits of a pattern, those
    that decide the least, are left out.

    Args:
        occurrences: the evidence.
        rules: fitted rules, in any order.
        neighbors: which tokens are close by embedding.
        max_parts: at least 1.
    """
    masses = _masses(occurrences, rules)
    ranked = sorted(range(len(rules)), key=lambda i: (-masses[i], i))
    kept = ranked[: max_parts * MAX_RULES_PER_PART]
    groups = _connected(kept, rules, _close_pairs(neighbors))
    groups.sort(key=lambda members: -sum(masses[i] for i in members))
    own, rest = _worthy(occurrences, rules, groups, max_parts)
    for member in rest:
        room = [g for g in own if len(g) < MAX_RULES_PER_PART]
        if room:
            room[-1].append(member)
        elif len(own) < max_parts:
            own.append([member])
    return [_part([rules[i] for i in sorted(g, key=lambda i: (-masses[i], i))]) for g in own]


def _worthy(
    occurrences: Occurrences,
    rules: Sequence[PatternRule],
    groups: Sequence[Sequence[int]],
    max_parts: int,
) -> tuple[list[list[int]], list[int]]:
    """Groups that are parts of their own, and the rules of all others."""
    cut = [list(members[:MAX_RULES_PER_PART]) for members in groups]
    rest = [i for members in groups for i in members[MAX_RULES_PER_PART:]]
    measures = part_measures(occurrences, [[rules[i] for i in members] for members in cut])
    own: list[list[int]] = []
    for position, (members, measure) in enumerate(zip(cut, measures, strict=True)):
        enough = measure.recall >= MIN_RECALL and (measure.precision or 0.0) >= MIN_PRECISION
        # The strongest group is a part whatever it finds: the others join something.
        if (enough or position == 0) and len(own) < max_parts:
            own.append(members)
        else:
            rest.extend(members)
    return own, rest


def _masses(occurrences: Occurrences, rules: Sequence[PatternRule]) -> list[float]:
    """Measured share, weighted, at the rows that each rule decides."""
    strengths = np.zeros(len(occurrences))
    winner = np.full(len(occurrences), len(rules))
    for i, rule in enumerate(rules):
        better = occurrences.rule_mask(rule) & (strengths < rule.strength)
        strengths[better] = rule.strength
        winner[better] = i
    weighted = occurrences.weight * occurrences.share
    sums = np.bincount(winner, weighted, minlength=len(rules) + 1)
    return [float(s) for s in sums[:-1]]


def _part(rules: Sequence[PatternRule]) -> PatternPart:
    part = PatternPart(rules=rules)
    part.label = part_label(part)
    return part


def _close_pairs(neighbors: Iterable[TokenNeighbors]) -> set[frozenset[bytes]]:
    return {
        frozenset((_folded(entry.token.token_bytes), _folded(near.token_bytes)))
        for entry in neighbors
        for near in (*entry.variants, *entry.neighbors)
    }


def _connected(
    kept: Sequence[int], rules: Sequence[PatternRule], close: set[frozenset[bytes]]
) -> list[list[int]]:
    """Connected groups of rules, members in the order of `kept`."""
    leader = {i: i for i in kept}

    def find(i: int) -> int:
        while leader[i] != i:
            i = leader[i]
        return i

    for position, first in enumerate(kept):
        for second in kept[position + 1 :]:
            if find(first) != find(second) and _related(rules[first], rules[second], close):
                leader[find(second)] = find(first)
    groups: dict[int, list[int]] = {}
    for i in kept:
        groups.setdefault(find(i), []).append(i)
    return list(groups.values())


def _related(one: PatternRule, other: PatternRule, close: set[frozenset[bytes]]) -> bool:
    if _same_left(one, other):
        return True
    first, second = _text(one.token), _text(other.token)
    if first is None or second is None:
        return one.token == other.token or _classmates(one.token, other.token)
    if _folded(first) == _folded(second) or _shape(first) == _shape(second) != 0:
        return True
    return frozenset((_folded(first), _folded(second))) in close


def _same_left(one: PatternRule, other: PatternRule) -> bool:
    """Whether both ask for a common token to the left."""
    first, second = (
        {m.SerializeToString(deterministic=True) for c in r.left if not c.negated for m in c.any_of}
        for r in (one, other)
    )
    return bool(first & second)


def _classmates(one: TokenMatcher, other: TokenMatcher) -> bool:
    """Whether one is a class of bytes or an affix and the other a token in it."""
    for broad, narrow in ((one, other), (other, one)):
        text = _text(narrow)
        if text is None:
            continue
        if broad.WhichOneof("kind") == "token_class":
            return broad.token_class in _TELLING and in_local_class(text, broad.token_class)
        bare = without_leading_space(text)
        if broad.WhichOneof("kind") == "prefix":
            return bare.startswith(broad.prefix)
        return bare.endswith(broad.suffix)
    return False


def _shape(token: bytes) -> int:
    """The class of tokens that are not words: those of one such class belong together."""
    shapes = [c for c in sorted(LOCAL_CLASSES) if c in _SHAPES and in_local_class(token, c)]
    return shapes[0] if shapes else 0


def _text(matcher: TokenMatcher) -> bytes | None:
    return matcher.literal if matcher.WhichOneof("kind") == "literal" else None


def _folded(token: bytes) -> bytes:
    return fold_case(without_leading_space(token))
