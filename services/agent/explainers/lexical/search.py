"""Greedy search for the rule set with the shortest description.

A rule takes over the rows that it matches and that are now predicted weaker than its own
mean at natural prevalence (the pattern's semantics is the maximum over matching rules).
Its gain is what coding those rows apart saves, less what it costs to name it. The best
rule is added until none gains; rules that no longer pay are then dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from saexplain.common.v1.pattern_pb2 import LeftCondition, PatternRule, TokenMatcher
from services.agent.explainers.lexical import candidates, conditions
from services.agent.explainers.lexical.coding import (
    RuleCosts,
    code_length,
    counts_of,
    levels_of,
    log_probabilities,
)
from services.agent.explainers.lexical.occurrences import Bools, Floats, Ints, Occurrences
from services.agent.explainers.lexical.strengths import MAX_STRENGTH

MAX_RULES = 100
"""Five parts of twenty rules (pattern.proto)."""
MAX_CONDITIONS = 2
MIN_DOCUMENTS = 2
"""Documents in which a rule's rows must have fired: one text proves nothing."""
MIN_STRENGTH = 0.02
_MIN_CONDITION_FIRINGS = 3
_BACKGROUND = 0


@dataclass
class Scored:
    """A candidate with what it would gain now."""

    rule: PatternRule
    rows: Ints
    gain: float


@dataclass
class RuleSearch:
    """State of one search; `run` gives the rules, best first."""

    occurrences: Occurrences
    max_rules: int = MAX_RULES
    rules: list[PatternRule] = field(default_factory=list)

    def __post_init__(self) -> None:
        rows = self.occurrences
        self._levels = levels_of(rows.share)
        # Each row that was seen is one witness for the description length, however many
        # rows of the population it stands for: a weight is no number of observations.
        self._witnesses = np.where(rows.weight > 0, 1.0, 0.0)
        self._leaf = np.zeros(len(rows), np.int64)
        self._counts = [counts_of(self._levels, self._witnesses)]
        self._strengths = np.zeros(1)
        self._learn()
        matchers = candidates.matchers(rows)
        kinds = [m.WhichOneof("kind") for m in matchers]
        self.costs = RuleCosts(
            literals=kinds.count("literal"),
            contexts=len(np.unique(rows.history[self._levels > 0])),
            affixes=kinds.count("prefix") + kinds.count("suffix"),
        )
        self._rows = [rows.matcher_rows(m) for m in matchers]
        self._matchers = matchers

    def run(self) -> list[PatternRule]:
        """Adds rules until none gains."""
        best = [self._best_of(m, r) for m, r in zip(self._matchers, self._rows, strict=True)]
        while len(self.rules) < self.max_rules:
            scores = [scored.gain if scored else 0.0 for scored in best]
            chosen = int(np.argmax(scores)) if scores else 0
            winner = best[chosen] if scores else None
            if winner is None or winner.gain <= 0:
                break
            moved = self._add(winner)
            for i, rows in enumerate(self._rows):
                if i == chosen or moved[rows].any():
                    best[i] = self._best_of(self._matchers[i], rows)
        return self.rules

    def refine(self, rule: PatternRule) -> PatternRule | None:
        """The rule with one condition more or less, where that describes its rows, all
        taken from the background, more briefly; None where nothing does. Strength and
        support are those of the rows it then matches."""
        present = self._scored(rule)
        freed = [self._scored(_without(rule, i)) for i in range(len(rule.left))]
        refined: list[Scored] = []
        if len(rule.left) < MAX_CONDITIONS:
            refined = list(self._refinements(present))
        best = max([*freed, *refined], key=lambda s: s.gain, default=None)
        if best is None or best.gain <= max(present.gain, 0.0):
            return None
        changed = PatternRule()
        changed.CopyFrom(best.rule)
        changed.strength = min(self._mean(best.rows), MAX_STRENGTH)
        changed.support = len(best.rows)
        return changed

    def _scored(self, rule: PatternRule) -> Scored:
        return self._score(rule, self.occurrences.rule_rows(rule))

    def _best_of(self, matcher: TokenMatcher, rows: Ints) -> Scored | None:
        """The best rule with this matcher, with up to `MAX_CONDITIONS` conditions."""
        if len(rows) == 0 or not (self._levels[rows] > 0).any():
            return None
        rule = PatternRule(token=matcher)
        best = self._score(rule, rows)
        current = best
        for _ in range(MAX_CONDITIONS):
            refined = max(self._refinements(current), key=lambda s: s.gain, default=None)
            if refined is None or refined.gain <= max(best.gain, 0.0):
                break
            best = current = refined
        return best

    def _refinements(self, scored: Scored) -> Iterator[Scored]:
        rows = scored.rows
        firing = self._levels[rows] > 0
        if firing.sum() < _MIN_CONDITION_FIRINGS or firing.all():
            return
        benefits = self._benefits(rows, firing)
        for condition in conditions.propose(
            self.occurrences, rows, benefits, self.costs.alternative
        ):
            if condition in scored.rule.left:
                continue
            kept = rows[self.occurrences.condition_mask(condition, rows)]
            if 0 < len(kept) < len(rows):
                yield self._score(_with(scored.rule, condition), kept)

    def _benefits(self, rows: Ints, firing: Bools) -> Floats:
        """Nats saved per row if it were coded as the firing ones among `rows` are."""
        firing_counts = counts_of(self._levels[rows[firing]], self._witnesses[rows[firing]])
        coded = log_probabilities(firing_counts)
        levels = self._levels[rows]
        saved = coded[levels] - self._learned[self._leaf[rows], levels]
        return np.asarray(saved * self._witnesses[rows])

    def _score(self, rule: PatternRule, rows: Ints) -> Scored:
        moved = self._takes(rows)
        if not self._proven(moved):
            return Scored(rule, rows, -np.inf)
        counts = counts_of(self._levels[moved], self._witnesses[moved])
        saved = -code_length(counts)
        leaves = self._leaf[moved]
        for leaf in np.unique(leaves):
            taken = moved[leaves == leaf]
            gone = counts_of(self._levels[taken], self._witnesses[taken])
            before = self._counts[leaf]
            saved += code_length(before) - code_length(before - gone)
        return Scored(rule, rows, saved - self.costs.rule(rule))

    def _takes(self, rows: Ints) -> Ints:
        """The rows that a rule on `rows` would take over: those now predicted weaker
        than the mean of what it takes."""
        taken = rows
        for _ in range(2):
            mean = self._mean(taken)
            taken = rows[self._strengths[self._leaf[rows]] < mean]
            if len(taken) == 0:
                break
        return taken

    def _proven(self, rows: Ints) -> bool:
        if len(rows) == 0 or self._mean(rows) < MIN_STRENGTH:
            return False
        fired = rows[self._levels[rows] > 0]
        return len(np.unique(self.occurrences.document[fired])) >= MIN_DOCUMENTS

    def _mean(self, rows: Ints) -> float:
        weights = self.occurrences.weight[rows]
        total = float(weights.sum())
        return float(weights @ self.occurrences.share[rows]) / total if total > 0 else 0.0

    def _add(self, scored: Scored) -> Bools:
        moved = self._takes(scored.rows)
        leaf = len(self._counts)
        for old in np.unique(self._leaf[moved]):
            gone = moved[self._leaf[moved] == old]
            self._counts[old] = self._counts[old] - counts_of(
                self._levels[gone], self._witnesses[gone]
            )
        self._leaf[moved] = leaf
        self._counts.append(counts_of(self._levels[moved], self._witnesses[moved]))
        self._strengths = np.append(self._strengths, self._mean(moved))
        rule = PatternRule()
        rule.CopyFrom(scored.rule)
        rule.strength = min(self._strengths[leaf], MAX_STRENGTH)
        rule.support = len(moved)
        self.rules.append(rule)
        self._learn()
        changed = np.zeros(len(self.occurrences), bool)
        changed[moved] = True
        return changed

    def _learn(self) -> None:
        """Brings the codes of all leaves up to date; shape [leaves, LEVELS]."""
        self._learned = np.stack([log_probabilities(counts) for counts in self._counts])


def _with(rule: PatternRule, condition: LeftCondition) -> PatternRule:
    extended = PatternRule()
    extended.CopyFrom(rule)
    extended.left.append(condition)
    return extended


def _without(rule: PatternRule, condition: int) -> PatternRule:
    freed = PatternRule()
    freed.CopyFrom(rule)
    del freed.left[condition]
    return freed
