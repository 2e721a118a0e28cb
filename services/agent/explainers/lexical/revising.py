"""Revision from measured probes, in code.

Per hypothesis, in this order: tokens that proved active enter its rules; rules whose
probes contradict them are narrowed by a left condition or freed of one, where that
shortens the description of evidence and probes together; rules that stayed silent wherever
they were tried are dropped, whatever the corpus says for them. A refuted hypothesis of which
some rules work and others do not is split along that line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from saexplain.agent.v1.agent_pb2 import (
    REVISION_KIND_REFINE,
    REVISION_KIND_REJECT,
    REVISION_KIND_SPLIT,
    ReviseHypothesesRequest,
    ReviseHypothesesResponse,
    RevisionKind,
    RevisionOperation,
)
from saexplain.common.v1.experiment_pb2 import (
    HYPOTHESIS_STATUS_OPEN,
    HYPOTHESIS_STATUS_REFUTED,
    HYPOTHESIS_STATUS_REJECTED,
    HYPOTHESIS_STATUS_SUPERSEDED,
    Hypothesis,
    ProbeResult,
)
from saexplain.common.v1.pattern_pb2 import Pattern, PatternPart, PatternRule, TokenMatcher
from services.agent.explainers.lexical import fit, weights
from services.agent.explainers.lexical.hypotheses import (
    claimed_windows,
    evidence_sentence,
    hypothesis,
    is_live,
    part_of,
)
from services.agent.explainers.lexical.measures import part_measures
from services.agent.explainers.lexical.naming import part_label
from services.agent.explainers.lexical.occurrences import Occurrences, Stretch
from services.agent.explainers.lexical.search import RuleSearch
from services.agent.explainers.lexical.strengths import MAX_STRENGTH
from services.agent.explainers.lexical.trials import MIN_TRIALS, Trials
from services.agent.explainers.lexical.weights import SILENT_SHARE
from services.agent.explainers.probe_checks import next_hypothesis_number
from services.common.pattern import matcher_text, visible
from services.common.pattern.tokens import matches_locally
from services.common.pattern.validate import MAX_PARTS, MAX_RULES_PER_PART

_WORKS, _FAILS = 0.7, 0.3


@dataclass
class _Revision:
    """What becomes of one part."""

    rules: list[PatternRule]
    reasons: list[str] = field(default_factory=list)


class Reviser:
    """One revision of a run's hypotheses."""

    def __init__(self, request: ReviseHypothesesRequest) -> None:
        self._evidence = request.evidence
        self._state = request.state
        self._reference = request.evidence.facts.reference_max
        self._trials = Trials(request.state.results)
        self._occurrences = fit.lay_out(request.evidence)
        self._search = RuleSearch(_with_probes(request, self._occurrences))
        self._next = next_hypothesis_number(request.state.hypotheses)
        self._live = [h for h in request.state.hypotheses if is_live(h)]

    def run(self) -> ReviseHypothesesResponse:
        """All hypotheses after the revision, and what was done."""
        response = ReviseHypothesesResponse()
        created: list[Hypothesis] = []
        for given in self._state.hypotheses:
            kept = response.hypotheses.add()
            kept.CopyFrom(given)
            if not is_live(kept):
                continue
            halves = self._halves(kept)
            if halves:
                created += self._split(kept, halves, response)
                continue
            revision = self._revised(kept)
            if not revision.rules:
                kept.status = HYPOTHESIS_STATUS_REJECTED
                kept.rationale = "; ".join(revision.reasons)
                _note(response, REVISION_KIND_REJECT, [kept.id], [], kept.rationale)
            elif revision.reasons:
                self._reword(kept, revision)
                _note(response, REVISION_KIND_REFINE, [kept.id], [kept.id], kept.rationale)
        response.hypotheses.extend(created)
        return response

    def _revised(self, given: Hypothesis) -> _Revision:
        revision = _Revision([])
        for rule in part_of(given).rules:
            kept = self._tested(rule, revision.reasons)
            if kept is not None and kept not in revision.rules:
                revision.rules.append(kept)
        self._add_proven(given, revision)
        return revision

    def _tested(self, rule: PatternRule, reasons: list[str]) -> PatternRule | None:
        """The rule after its probes: as it was, changed, or None where it is dropped."""
        trial = self._trials.of_rule(rule)
        if trial.count < MIN_TRIALS:
            return rule
        name = matcher_text(rule.token)
        refined = self._search.refine(rule)
        if refined is not None:
            reasons.append(f"another left condition for {name} agrees better with the probes")
            return refined
        if trial.refuted(self._reference):
            reasons.append(f"{name} stayed silent in {trial.count} probes and is dropped")
            return None
        return rule

    def _add_proven(self, given: Hypothesis, revision: _Revision) -> None:
        for token, trial in sorted(self._trials.of_boundaries(given.id).items()):
            room = len(revision.rules) < MAX_RULES_PER_PART
            if not (room and trial.proven) or self._held(token):
                continue
            strength = min(trial.mean / self._reference, MAX_STRENGTH)
            matcher = TokenMatcher(literal=token)
            revision.rules.append(
                PatternRule(token=matcher, strength=strength, support=trial.count)
            )
            revision.reasons.append(
                f"“{visible(token)}” was active in {trial.active} of {trial.count} probes "
                "and enters the rules"
            )

    def _held(self, token: bytes) -> bool:
        """Whether an unconditional rule of a live hypothesis takes the token already."""
        rules = [rule for h in self._live for rule in part_of(h).rules if not rule.left]
        return any(
            rule.token.WhichOneof("kind") == "literal" and matches_locally(rule.token, token)
            for rule in rules
        )

    def _halves(self, given: Hypothesis) -> list[list[PatternRule]]:
        """Rules that work (with those not tested) and rules that fail, where a refuted
        hypothesis has both and the pattern has room for one more part."""
        rules = list(part_of(given).rules)
        if given.status != HYPOTHESIS_STATUS_REFUTED or len(self._live) >= MAX_PARTS:
            return []
        rates = [self._pass_rate(given, rule) for rule in rules]
        failing = [
            r for r, rate in zip(rules, rates, strict=True) if rate is not None and rate <= _FAILS
        ]
        working = any(rate is not None and rate >= _WORKS for rate in rates)
        if not failing or not working:
            return []
        return [[r for r in rules if r not in failing], failing]

    def _pass_rate(self, given: Hypothesis, rule: PatternRule) -> float | None:
        """Share of the rule's positive probes that were ACTIVE; None without any."""
        mine = [
            r
            for r in self._state.results
            if r.probe.hypothesis_id == given.id and r.probe.predicted_active
        ]
        trial = Trials(mine).of_rule(rule)
        return trial.active / trial.count if trial.count else None

    def _split(
        self,
        kept: Hypothesis,
        halves: Sequence[Sequence[PatternRule]],
        response: ReviseHypothesesResponse,
    ) -> list[Hypothesis]:
        reason = "some of its tokens were active in fresh sentences and others were not"
        kept.status = HYPOTHESIS_STATUS_SUPERSEDED
        kept.rationale = f"Split: {reason}."
        successors = []
        for rules in halves:
            part = _part(rules)
            measure = part_measures(self._occurrences, [rules])[0]
            new = hypothesis(self._next, part, measure, self._evidence, self._state.round)
            new.parents.append(kept.id)
            successors.append(new)
            self._next += 1
        self._live += successors[1:]
        _note(response, REVISION_KIND_SPLIT, [kept.id], [h.id for h in successors], kept.rationale)
        return successors

    def _reword(self, kept: Hypothesis, revision: _Revision) -> None:
        part = _part(revision.rules)
        measure = part_measures(self._occurrences, [revision.rules])[0]
        changed = hypothesis(0, part, measure, self._evidence, kept.created_round)
        kept.statement = changed.statement
        kept.kind = changed.kind
        kept.pattern.CopyFrom(Pattern(parts=[part]))
        kept.claimed_windows[:] = claimed_windows(part, self._evidence)
        kept.status = HYPOTHESIS_STATUS_OPEN
        kept.revision += 1
        kept.ClearField("tally")
        kept.rationale = f"{'; '.join(revision.reasons)}. {evidence_sentence(measure)}"


def revise(request: ReviseHypothesesRequest) -> ReviseHypothesesResponse:
    """The hypotheses after a round; unchanged for a feature that never fires."""
    if not fit.fires(request.evidence):
        return ReviseHypothesesResponse(hypotheses=request.state.hypotheses)
    return Reviser(request).run()


def _with_probes(request: ReviseHypothesesRequest, occurrences: Occurrences) -> Occurrences:
    """The evidence with every measured probe as one more window; a probe's token counts
    as much as an average firing token of the corpus."""
    firing = occurrences.weight[occurrences.share >= SILENT_SHARE]
    unit = float(firing @ firing / firing.sum()) if firing.sum() > 0 else 1.0
    reference = request.evidence.facts.reference_max
    probes = [_stretch(r, reference, unit) for r in request.state.results if r.activations]
    return Occurrences.of([*weights.stretches(request.evidence), *probes])


def _stretch(result: ProbeResult, reference: float, weight: float) -> Stretch:
    return Stretch(
        name=result.probe.id,
        document=result.probe.id,
        tokens=result.tokens,
        left=type(result.tokens)(),
        position=0,
        shares=np.asarray(result.activations, np.float64) / reference,
        weights=np.full(len(result.activations), weight),
    )


def _part(rules: Sequence[PatternRule]) -> PatternPart:
    part = PatternPart(rules=rules)
    part.label = part_label(part)
    return part


def _note(
    response: ReviseHypothesesResponse,
    kind: RevisionKind.ValueType,
    sources: Sequence[str],
    targets: Sequence[str],
    rationale: str,
) -> None:
    response.operations.append(
        RevisionOperation(kind=kind, sources=sources, targets=targets, rationale=rationale)
    )
