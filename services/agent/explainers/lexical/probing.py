"""Probes that could break a rule: it in fresh sentences, its near misses, its twins.

- Positive: the rule's token under its left condition, in a carrier it was not seen in.
- Boundary: a spelling variant or embedding neighbour of a rule's token that no rule holds,
  or the token where its condition is broken. These also are the measurements after which
  a token may enter a rule.
- Minimal pair: an active probe of this round with the trigger, or what its condition asks
  for, replaced by neutral words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from saexplain.agent.v1.agent_pb2 import DesignProbesRequest, DesignProbesResponse, Evidence
from saexplain.common.v1.experiment_pb2 import (
    HYPOTHESIS_STATUS_OPEN,
    PROBE_ROLE_BOUNDARY,
    PROBE_ROLE_MINIMAL_PAIR,
    PROBE_ROLE_POSITIVE,
    Hypothesis,
    Probe,
    ProbeRole,
)
from saexplain.common.v1.pattern_pb2 import PatternRule
from services.agent.explainers.base import StepOptions
from services.agent.explainers.lexical import fit, texts
from services.agent.explainers.lexical.hypotheses import is_live, part_of
from services.agent.explainers.lexical.occurrences import Occurrences
from services.agent.explainers.lexical.trials import Trials, proposals
from services.agent.explainers.lexical.weights import ACTIVE_SHARE, SILENT_SHARE
from services.agent.explainers.probe_checks import ProbeGate
from services.common.pattern import matcher_text, visible

_MAX_LEFT = 8
_ATTEMPTS = 40
"""Carriers and sites tried before a probe is given up."""
_SITES = 12


def design(request: DesignProbesRequest) -> DesignProbesResponse:
    """Probes for every open hypothesis, in order of hypotheses."""
    opened = [h for h in request.state.hypotheses if h.status == HYPOTHESIS_STATUS_OPEN]
    if not opened or not fit.fires(request.evidence):
        return DesignProbesResponse()
    occurrences = fit.lay_out(request.evidence)
    drafts: list[Probe] = []
    for hypothesis in opened:
        if is_live(hypothesis):
            drafts += _Designer(request, occurrences, hypothesis).probes()
    admitted, refused = ProbeGate(request.evidence, request.state).admit(drafts)
    return DesignProbesResponse(probes=admitted, refused_probes=refused)


@dataclass
class _Positive:
    """An active probe of this round with what it is made of."""

    name: str
    rule: PatternRule
    draft: texts.Draft


class _Designer:
    """Writes the probes of one hypothesis."""

    def __init__(
        self, request: DesignProbesRequest, occurrences: Occurrences, hypothesis: Hypothesis
    ) -> None:
        options = StepOptions.of(request.options)
        number = int("".join(c for c in hypothesis.id if c.isdigit()) or 0)
        seed = [options.seed % 2**63, request.state.round, number, hypothesis.revision]
        self._rng = np.random.default_rng(seed)
        self._options = options
        self._hypothesis = hypothesis
        self._evidence: Evidence = request.evidence
        self._occurrences = occurrences
        self._trials = Trials(request.state.results)
        self._predictor = texts.Predictor([h for h in request.state.hypotheses if is_live(h)])
        self._carriers = texts.carriers(request.evidence, self._rng)
        self._neutral = texts.neutral_words(request.evidence)
        self._texts = {result.probe.text for result in request.state.results}
        self._written: list[Probe] = []

    def probes(self) -> list[Probe]:
        """Positives, then boundaries and minimal pairs, which fill in for each other."""
        positives = self._positives()
        wanted = self._options.negative_probe_count
        boundaries = self._boundaries(-(-wanted // 2))
        twins = self._twins(positives, wanted - boundaries)
        if boundaries + twins < wanted:
            self._boundaries(wanted - boundaries - twins)
        return self._written

    def _positives(self) -> list[_Positive]:
        rules = self._testable()
        found: list[_Positive] = []
        for ordinal in range(self._options.positive_probe_count):
            rule = rules[ordinal % len(rules)]
            draft = self._draft(self._phrases(rule), rule.strength * 0.99, 2.0)
            if draft is None:
                continue
            reason = f"holds {matcher_text(rule.token)} as the rule asks, in another sentence"
            name = self._write(draft, PROBE_ROLE_POSITIVE, reason)
            found.append(_Positive(name, rule, draft))
        return found

    def _testable(self) -> list[PatternRule]:
        """The rules that predict activity, those tested least first; else the strongest."""
        rules = sorted(part_of(self._hypothesis).rules, key=lambda rule: -rule.strength)
        strong = [rule for rule in rules if rule.strength >= ACTIVE_SHARE] or rules[:2]
        return sorted(strong, key=lambda rule: self._trials.of_rule(rule).count)

    def _boundaries(self, count: int) -> int:
        """Near misses, each predicted silent; returns how many were written."""
        rules = list(part_of(self._hypothesis).rules)
        near = proposals(self._hypothesis, self._evidence, self._occurrences, self._trials)
        written = 0
        for token, rule in near:
            if written == count:
                break
            phrases = (p.with_token(p.trigger, token) for p in self._phrases(rule))
            reason = f"“{visible(token)}” is close to {matcher_text(rule.token)} and in no rule"
            written += self._write_silent(phrases, PROBE_ROLE_BOUNDARY, reason)
        for rule in rules:
            if written == count:
                break
            if any(not c.negated for c in rule.left):
                reason = f"holds {matcher_text(rule.token)} without what must stand before it"
                bare = (_bare(p) for p in self._phrases(rule))
                written += self._write_silent(bare, PROBE_ROLE_BOUNDARY, reason)
        return written

    def _twins(self, positives: Sequence[_Positive], count: int) -> int:
        """Minimal pairs of this round's positives; returns how many were written."""
        written = 0
        for attempt in range(2):
            for positive in positives:
                if written == count:
                    return written
                conditional = any(not c.negated for c in positive.rule.left)
                break_left = conditional and (written + attempt) % 2 == 0
                draft = self._twin(positive, break_left)
                if draft is None:
                    continue
                what = "what must stand before it" if break_left else "the trigger"
                reason = f"the same sentence with {what} replaced"
                self._write(draft, PROBE_ROLE_MINIMAL_PAIR, reason, positive.name)
                written += 1
        return written

    def _twin(self, positive: _Positive, break_left: bool) -> texts.Draft | None:
        phrase = positive.draft.phrase
        for _ in range(_ATTEMPTS if self._neutral else 0):
            changed = phrase
            places = range(phrase.trigger) if break_left else [phrase.trigger]
            for place in places:
                changed = changed.with_token(place, self._neutral_word())
            draft = texts.Draft(positive.draft.carrier, changed)
            if len(places) <= 3 and self._fits(draft, 0.0, SILENT_SHARE):
                return draft
        return None

    def _phrases(self, rule: PatternRule) -> Iterator[texts.Phrase]:
        """Phrases from where the rule was seen, strong sites first, without end."""
        occurrences = self._occurrences
        rows = np.flatnonzero(occurrences.rule_mask(rule))
        order = rows[np.argsort(-occurrences.share[rows], kind="stable")]
        sites = [texts.phrase_at(occurrences, int(row), rule, _MAX_LEFT) for row in order[:_SITES]]
        known = [site for site in sites if site is not None]
        if not known and rule.token.WhichOneof("kind") == "literal" and not rule.left:
            known = [texts.Phrase((rule.token.literal,), 0)]
        while known:
            for i in self._rng.permutation(len(known)):
                yield known[i]

    def _draft(
        self, phrases: Iterator[texts.Phrase], low: float, high: float
    ) -> texts.Draft | None:
        """The first phrase in a carrier that is a new text with a prediction at the
        trigger in [low, high] and silence elsewhere in the carrier."""
        for _, phrase, carrier in zip(range(_ATTEMPTS), phrases, self._carriers, strict=False):
            draft = texts.Draft(carrier, phrase)
            if self._fits(draft, low, high):
                return draft
        return None

    def _fits(self, draft: texts.Draft, low: float, high: float) -> bool:
        text = draft.text
        if text is None or text in self._texts or not text.strip():
            return False
        shares = self._predictor.shares(draft.tokens)
        elsewhere = np.delete(shares, draft.trigger)
        return low <= shares[draft.trigger] <= high and bool((elsewhere <= max(high, 0)).all())

    def _write_silent(
        self, phrases: Iterator[texts.Phrase], role: ProbeRole.ValueType, reason: str
    ) -> int:
        draft = self._draft(phrases, 0.0, SILENT_SHARE)
        if draft is None:
            return 0
        self._write(draft, role, reason)
        return 1

    def _write(
        self, draft: texts.Draft, role: ProbeRole.ValueType, reason: str, twin: str = ""
    ) -> str:
        text = draft.text
        assert text is not None  # `_fits` has seen to it.
        name = f"{self._hypothesis.id}/{len(self._written)}"
        self._texts.add(text)
        self._written.append(
            Probe(
                id=name,
                hypothesis_id=self._hypothesis.id,
                text=text,
                role=role,
                predicted_active=role == PROBE_ROLE_POSITIVE,
                rationale=reason,
                twin_probe_id=twin,
            )
        )
        return name

    def _neutral_word(self) -> bytes:
        return self._neutral[int(self._rng.integers(len(self._neutral)))]


def _bare(phrase: texts.Phrase) -> texts.Phrase:
    """The trigger alone."""
    return texts.Phrase((phrase.tokens[phrase.trigger],), 0)
