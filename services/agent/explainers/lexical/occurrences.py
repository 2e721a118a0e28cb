"""The evidence as columns: one row per token of every distinct window.

Everything that fits rules works on these arrays; `rule_mask` is the one place where a
rule of the Pattern message meets them, and a test holds it to the evaluator.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from saexplain.common.v1.pattern_pb2 import (
    TOKEN_CLASS_ANY,
    TOKEN_CLASS_CONTEXT_START,
    TOKEN_CLASS_LINE_START,
    TOKEN_CLASS_WORD_CONTINUATION,
    LeftCondition,
    PatternRule,
    TokenClass,
    TokenMatcher,
)
from saexplain.common.v1.text_pb2 import TokenSpan
from services.agent.explainers.lexical.vocabulary import Affixes, Vocabulary
from services.common.pattern.evaluate import CONTEXT_START_TOKENS
from services.common.pattern.tokens import (
    LOCAL_CLASSES,
    ends_with_letter,
    holds_line_break,
    is_bare_word,
)

HISTORY = 8
"""How many tokens to the left a rule may look."""
NEAR = 2
"""How many of them conditions on classes and affixes look at."""
NEAR_CLASSES: tuple[tuple[TokenClass.ValueType, int], ...] = tuple(
    (c, distance) for c in sorted(LOCAL_CLASSES) if c != TOKEN_CLASS_ANY for distance in (1, NEAR)
)
"""Classes of such conditions with the distance, the order of `Occurrences.near_classes`."""

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Stretch:
    """A window or a measured probe, before it becomes rows.

    Attributes:
        name: the window's name or the probe's id.
        document: what rows count as one witness.
        tokens: the tokens that were measured.
        left: what stands before them.
        position: tokens before the first in its context.
        shares: activation over the reference maximum at each token.
        weights: windows of the population that each token stands for.
    """

    name: str
    document: str
    tokens: TokenSpan
    left: TokenSpan
    position: int
    shares: Floats
    weights: Floats


@dataclass(frozen=True)
class Occurrences:
    """N tokens in their contexts, over a vocabulary of V distinct byte strings.

    Attributes:
        stretches: where the rows come from, in order.
        vocabulary: the distinct tokens, left contexts included; sorted.
        token: index into `vocabulary`, shape [N].
        history: the same for the d-th token to the left in column d - 1, and V where
            there is none or it is not known; shape [N, HISTORY].
        share: activation over the reference maximum, shape [N].
        weight: tokens of the population that the row stands for, shape [N].
        position: tokens before the row's in its context, shape [N].
        stretch: index into `stretches`, shape [N].
        document: index of the row's document, shape [N].
    """

    stretches: tuple[Stretch, ...]
    vocabulary: tuple[bytes, ...]
    token: Ints
    history: Ints
    position: Ints
    share: Floats
    weight: Floats
    stretch: Ints
    document: Ints

    @classmethod
    def of(cls, stretches: Sequence[Stretch]) -> Occurrences:
        """Lays stretches out as rows.

        Raises:
            ValueError: there is no row.
        """
        if not stretches:
            raise ValueError("no stretches to lay out")
        spans = [(*s.left.token_bytes, *s.tokens.token_bytes) for s in stretches]
        vocabulary = tuple(sorted({token for span in spans for token in span}))
        ids = {token: i for i, token in enumerate(vocabulary)}
        documents = {d: i for i, d in enumerate(sorted({s.document for s in stretches}))}
        lengths = [len(s.tokens.token_bytes) for s in stretches]
        coded = [np.array([ids[t] for t in span], np.int64) for span in spans]
        histories = [
            _history(row, length, len(vocabulary))
            for row, length in zip(coded, lengths, strict=True)
        ]
        return cls(
            stretches=tuple(stretches),
            vocabulary=vocabulary,
            token=np.concatenate([r[len(r) - n :] for r, n in zip(coded, lengths, strict=True)]),
            history=np.concatenate(histories),
            position=np.concatenate(
                [s.position + np.arange(n) for s, n in zip(stretches, lengths, strict=True)]
            ),
            share=np.concatenate([s.shares for s in stretches]),
            weight=np.concatenate([s.weights for s in stretches]),
            stretch=np.repeat(np.arange(len(stretches)), lengths),
            document=np.repeat([documents[s.document] for s in stretches], lengths),
        )

    def __len__(self) -> int:
        return len(self.token)

    @property
    def stretch_document(self) -> Ints:
        """Index of each stretch's document, shape [stretches]."""
        first = np.searchsorted(self.stretch, np.arange(len(self.stretches)))
        return self.document[first]

    def subset(self, chosen: Bools) -> Occurrences | None:
        """The rows of some stretches alone, over the same vocabulary; shape of `chosen`
        [stretches]; None where no row is left."""
        rows = chosen[self.stretch]
        if not rows.any():
            return None
        part = Occurrences(
            stretches=tuple(s for s, wanted in zip(self.stretches, chosen, strict=True) if wanted),
            vocabulary=self.vocabulary,
            token=self.token[rows],
            history=self.history[rows],
            position=self.position[rows],
            share=self.share[rows],
            weight=self.weight[rows],
            stretch=(np.cumsum(chosen) - 1)[self.stretch[rows]],
            document=self.document[rows],
        )
        # What is known of the vocabulary need not be found out again.
        part.__dict__["_tokens"] = self._tokens
        return part

    @cached_property
    def distinct_history(self) -> Ints:
        """`history` with V where a token already stands nearer."""
        distinct = self.history.copy()
        for column in range(1, HISTORY):
            nearer = self.history[:, :column] == self.history[:, column, None]
            distinct[nearer.any(axis=1), column] = len(self.vocabulary)
        return distinct

    @cached_property
    def near_classes(self) -> Floats:
        """1 where a token of a class stands within a distance, shape [N, NEAR_CLASSES]."""
        columns = []
        for token_class, distance in NEAR_CLASSES:
            taken = self.vocabulary_mask(TokenMatcher(token_class=token_class))
            columns.append(taken[self.history[:, :distance]].any(axis=1))
        return np.stack(columns, axis=1).astype(np.float64)

    @cached_property
    def near_affixes(self) -> tuple[tuple[Affixes, Ints], ...]:
        """Per kind and length of affix, which one stands at each near place, none where it
        already stands nearer; shape [N, NEAR]."""
        found = []
        for affixes in self._tokens.affixes:
            near = affixes.of_token[self.history[:, :NEAR]]
            for column in range(1, NEAR):
                repeated = (near[:, :column] == near[:, column, None]).any(axis=1)
                near[repeated, column] = len(affixes.matchers)
            found.append((affixes, near))
        return tuple(found)

    def peaks(self, values: Floats) -> Ints:
        """The row with the largest of some values in each stretch, the last of equals; shape
        [stretches]."""
        order = np.lexsort((values, self.stretch))
        ends = np.searchsorted(self.stretch[order], np.arange(len(self.stretches)), side="right")
        return np.asarray(order[ends - 1])

    @cached_property
    def _tokens(self) -> Vocabulary:
        return Vocabulary(self.vocabulary)

    @cached_property
    def _by_token(self) -> tuple[Ints, Ints]:
        """Rows ordered by token, and where each token's begin."""
        order = np.argsort(self.token, kind="stable")
        return order, np.searchsorted(self.token[order], np.arange(len(self.vocabulary) + 1))

    def vocabulary_mask(self, matcher: TokenMatcher) -> Bools:
        """Which tokens a matcher takes whose answer depends on the bytes only; shape
        [V + 1], the last entry, for no token, False."""
        return self._tokens.mask(matcher)

    def matcher_rows(self, matcher: TokenMatcher) -> Ints:
        """The rows at which a matcher takes the token, ascending."""
        if depends_on_place(matcher):
            return np.flatnonzero(self._placed(matcher.token_class))
        order, begins = self._by_token
        ids = self._tokens.ids(matcher)
        rows = [order[begins[i] : begins[i + 1]] for i in ids]
        return np.sort(np.concatenate(rows)) if rows else np.empty(0, np.int64)

    def matcher_mask(self, matcher: TokenMatcher) -> Bools:
        """At which rows a matcher takes the token, shape [N]."""
        if depends_on_place(matcher):
            return self._placed(matcher.token_class)
        return self.vocabulary_mask(matcher)[self.token]

    def condition_mask(self, condition: LeftCondition, rows: Ints | None = None) -> Bools:
        """Where a left condition over matchers without place holds, shape [N] or that of
        `rows`."""
        history = self.history if rows is None else self.history[rows]
        taken = np.zeros(len(self.vocabulary) + 1, bool)
        for matcher in condition.any_of:
            taken[self._tokens.ids(matcher)] = True
        found = np.zeros(len(history), bool)
        for column in range(min(condition.max_distance, history.shape[1])):
            found |= taken[history[:, column]]
        return np.asarray(found != condition.negated)

    def rule_rows(self, rule: PatternRule) -> Ints:
        """The rows at which a rule matches, ascending."""
        rows = self.matcher_rows(rule.token)
        for condition in rule.left:
            rows = rows[self.condition_mask(condition, rows)]
        return rows

    def rule_mask(self, rule: PatternRule) -> Bools:
        """At which rows a rule matches, shape [N]."""
        mask = np.zeros(len(self), bool)
        mask[self.rule_rows(rule)] = True
        return mask

    def _placed(self, token_class: TokenClass.ValueType) -> Bools:
        """Membership in a class that depends on the place, as the evaluator has it."""
        before, missing = self.history[:, 0], len(self.vocabulary)
        if token_class == TOKEN_CLASS_CONTEXT_START:
            return np.asarray(self.position < CONTEXT_START_TOKENS)
        if token_class == TOKEN_CLASS_LINE_START:
            opens = (before == missing) & (self.position == 0)
            return np.asarray(opens | self._tokens.trait(holds_line_break)[before])
        if token_class == TOKEN_CLASS_WORD_CONTINUATION:
            follows = self._tokens.trait(ends_with_letter)[before]
            return np.asarray(follows & self._tokens.trait(is_bare_word)[self.token])
        raise ValueError(f"no rows for token class {token_class}")


def depends_on_place(matcher: TokenMatcher) -> bool:
    """Whether the matcher asks for more than the token's bytes."""
    return matcher.WhichOneof("kind") == "token_class" and matcher.token_class not in LOCAL_CLASSES


def predictions(occurrences: Occurrences, rules: Iterable[PatternRule]) -> Floats:
    """The largest strength among the rules that match at each row, shape [N]."""
    best = np.zeros(len(occurrences))
    for rule in rules:
        rows = occurrences.rule_rows(rule)
        best[rows] = np.maximum(best[rows], rule.strength)
    return best


def _history(coded: Ints, length: int, missing: int) -> Ints:
    padded = np.concatenate([np.full(HISTORY, missing), coded])
    ends = np.arange(len(coded) - length, len(coded)) + HISTORY
    return np.stack([padded[ends - d] for d in range(1, HISTORY + 1)], axis=1)
