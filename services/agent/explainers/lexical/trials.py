"""What probes have measured about tokens and rules, and which tokens to try next.

A token that only resembles a rule's tokens is a proposal. It enters the rule after at
least `MIN_TRIALS` measurements in context of which `MIN_ACTIVE` were ACTIVE (method,
section 4): neighbours that were never measured mostly do not fire.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from saexplain.agent.v1.agent_pb2 import Evidence
from saexplain.common.v1.experiment_pb2 import (
    PROBE_OUTCOME_ACTIVE,
    PROBE_OUTCOME_AMBIGUOUS,
    PROBE_OUTCOME_INVALID,
    PROBE_ROLE_BOUNDARY,
    Hypothesis,
    ProbeResult,
)
from saexplain.common.v1.pattern_pb2 import Pattern, PatternPart, PatternRule
from saexplain.common.v1.vocabulary_pb2 import CARRIER_KIND_BARE
from services.agent.explainers.lexical.hypotheses import part_of
from services.agent.explainers.lexical.occurrences import Occurrences
from services.agent.explainers.lexical.weights import ACTIVE_SHARE, SILENT_SHARE
from services.common.pattern import predict
from services.common.pattern.tokens import fold_case, text_of, without_leading_space

MIN_TRIALS, MIN_ACTIVE = 3, 2
MAX_NEIGHBORS = 3
"""Embedding neighbours proposed per token, after its spelling variants."""
MAX_VOCABULARY = 12
"""Tokens of the vocabulary probe that are proposed, after variants and neighbours."""
_STEM = 4
_NO_VERDICT = frozenset((PROBE_OUTCOME_AMBIGUOUS, PROBE_OUTCOME_INVALID))


@dataclass
class Trial:
    """Measurements of one token or rule.

    Attributes:
        values: activation at the token in each text, the largest where it stands twice.
        active: in how many texts the peak was there and the verdict ACTIVE.
    """

    values: list[float] = field(default_factory=list)
    active: int = 0

    @property
    def count(self) -> int:
        """Texts measured."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """Mean activation; 0 where nothing was measured."""
        return sum(self.values) / len(self.values) if self.values else 0.0

    @property
    def proven(self) -> bool:
        """Whether a token with these measurements may enter a rule."""
        enough = self.count >= MIN_TRIALS and self.active >= MIN_ACTIVE
        # A word of many carriers may stand at a peak now and then.
        return enough and 2 * self.active >= self.count

    def refuted(self, reference_max: float) -> bool:
        """Whether a rule with these measurements stayed silent wherever it was tried."""
        silent = self.mean < SILENT_SHARE * reference_max
        return self.count >= MIN_TRIALS and not self.active and silent

    def add(self, result: ProbeResult, places: Sequence[int]) -> None:
        """Counts a text in which the token stands at `places`."""
        self.values.append(max(result.activations[i] for i in places))
        at_peak = result.peak_index in places
        self.active += at_peak and result.outcome == PROBE_OUTCOME_ACTIVE


class Trials:
    """Reads measured probes by token and by rule."""

    def __init__(self, results: Iterable[ProbeResult]) -> None:
        self._results = [r for r in results if r.outcome not in _NO_VERDICT and r.activations]

    def of_rule(self, rule: PatternRule) -> Trial:
        """Texts in which the rule matches somewhere."""
        pattern = Pattern(parts=[PatternPart(rules=[_certain(rule)])])
        trial = Trial()
        for result in self._results:
            places = [i for i, share in enumerate(predict(pattern, result.tokens)) if share > 0]
            if places:
                trial.add(result, places)
        return trial

    def of_boundaries(self, hypothesis_id: str) -> dict[bytes, Trial]:
        """Tokens of the boundary probes of one hypothesis."""
        trials: dict[bytes, Trial] = defaultdict(Trial)
        for result in self._results:
            mine = result.probe.hypothesis_id == hypothesis_id
            if mine and result.probe.role == PROBE_ROLE_BOUNDARY:
                tokens = list(result.tokens.token_bytes)
                for token in sorted(set(tokens)):
                    trials[token].add(result, [i for i, t in enumerate(tokens) if t == token])
        return trials


def proposals(
    hypothesis: Hypothesis, evidence: Evidence, occurrences: Occurrences, trials: Trials
) -> Iterator[tuple[bytes, PatternRule]]:
    """Tokens to try as near misses, each with the rule it resembles: first those that
    fired and lack measurements, then new ones, then repeats of the others until each has
    `MIN_TRIALS`."""
    resembling = dict(_resembling(hypothesis, evidence, occurrences))
    measured = trials.of_boundaries(hypothesis.id)
    counts = {token: measured[token].count if token in measured else 0 for token in resembling}
    fired = [t for t in resembling if counts[t] and measured[t].active]
    fresh = [t for t in resembling if not counts[t]]
    for token in fired:
        yield from ((token, resembling[token]) for _ in range(MIN_TRIALS - counts[token]))
    for repeat in range(1, MIN_TRIALS + 1):
        for token in (*fresh, *(t for t in resembling if t not in fired and t not in fresh)):
            if counts[token] < repeat:
                yield token, resembling[token]


def _resembling(
    hypothesis: Hypothesis, evidence: Evidence, occurrences: Occurrences
) -> Iterator[tuple[bytes, PatternRule]]:
    """Tokens close to a literal of the hypothesis that none of its rules takes."""
    rules = sorted(part_of(hypothesis).rules, key=lambda rule: -rule.strength)
    literals = [(r.token.literal, r) for r in rules if r.token.WhichOneof("kind") == "literal"]
    taken: set[bytes] = {token for token, _ in literals}
    for entry in evidence.token_neighbors:
        rule = next((r for t, r in literals if t == entry.token.token_bytes), None)
        if rule is None:
            continue
        for near in (*entry.variants, *entry.neighbors[:MAX_NEIGHBORS]):
            if near.token_bytes not in taken and near.token_bytes:
                taken.add(near.token_bytes)
                yield near.token_bytes, rule
    for token in strongest_of_vocabulary(evidence):
        if literals and token not in taken:
            taken.add(token)
            yield token, literals[0][1]
    for token, rule in literals:
        for other in _same_stem(token, occurrences.vocabulary):
            if other not in taken:
                taken.add(other)
                yield other, rule


def strongest_of_vocabulary(evidence: Evidence) -> list[bytes]:
    """Tokens that the vocabulary probe found ACTIVE behind at least one carrier, by their
    mean share of the reference maximum over all carriers but the bare one, largest first.
    They only propose: a carrier of a few words is no corpus sentence."""
    carriers = [p for p in evidence.vocabulary_probes if p.carrier.kind != CARRIER_KIND_BARE]
    sums: dict[bytes, float] = defaultdict(float)
    active: set[bytes] = set()
    for probe in carriers:
        for token in probe.top_tokens:
            sums[token.token_bytes] += token.relative_activation
            if token.relative_activation >= ACTIVE_SHARE:
                active.add(token.token_bytes)
    ranked = sorted((-sums[token], token) for token in active if token)
    return [token for _, token in ranked[:MAX_VOCABULARY]]


def _same_stem(token: bytes, vocabulary: Sequence[bytes]) -> Iterator[bytes]:
    """Words of the evidence that begin like the token."""
    stem = fold_case(without_leading_space(token))[:_STEM]
    if len(stem) < _STEM or not text_of(stem).isalpha():
        return
    for other in vocabulary:
        if other != token and fold_case(without_leading_space(other)).startswith(stem):
            yield other


def _certain(rule: PatternRule) -> PatternRule:
    copy = PatternRule()
    copy.CopyFrom(rule)
    copy.strength = 1.0
    return copy
