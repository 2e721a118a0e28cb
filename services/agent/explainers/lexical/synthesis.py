"""The explanation from the hypotheses that stand, with measured recall and precision."""

from __future__ import annotations

from collections.abc import Sequence

from saexplain.agent.v1.agent_pb2 import Evidence, RunState
from saexplain.common.v1.experiment_pb2 import (
    PROBE_OUTCOME_ACTIVE,
    PROBE_OUTCOME_SILENT,
    Hypothesis,
    ProbeResult,
)
from saexplain.common.v1.explanation_pb2 import (
    EXPLANATION_STATUS_EXPLAINED,
    EXPLANATION_STATUS_NO_EVIDENCE,
    EXPLANATION_STATUS_NO_EXPLANATION,
    EXPLANATION_STATUS_POSITIONAL,
    Explanation,
    ExplanationPart,
    ExplanationStatus,
)
from saexplain.common.v1.pattern_pb2 import PatternPart, PatternRule
from services.agent.explainers.lexical.fit import Fitted, calibrated, fires, fitted, lay_out
from services.agent.explainers.lexical.hypotheses import (
    POSITIONS,
    claimed_windows,
    is_live,
    part_of,
)
from services.agent.explainers.lexical.measures import PartMeasure
from services.agent.explainers.lexical.naming import pattern_label
from services.agent.explainers.lexical.occurrences import Occurrences, predictions
from services.agent.explainers.lexical.strengths import refit
from services.agent.explainers.lexical.trials import Trials
from services.common.given_explanation import MAX_DESCRIPTION_LENGTH
from services.common.pattern import describe, describe_part

MIN_CORRELATION = 0.2
"""Pearson on the evidence below which a rule set explains nothing, though it paid for
itself: it was fitted on that very evidence."""
MIN_COVERAGE = 0.1
"""Share of the active evidence windows that must be predicted."""
POSITIONAL_SHARE = 0.8
"""Share of the explained activation at which place alone is the explanation."""
_MAX_CITATIONS = 10


def explain(evidence: Evidence, state: RunState) -> Explanation:
    """The explanation; no language model and no randomness is involved."""
    if not fires(evidence):
        return _unexplained(
            EXPLANATION_STATUS_NO_EVIDENCE, "The feature does not fire in the EXPLAIN split."
        )
    live = [h for h in state.hypotheses if is_live(h)]
    if not live:
        return _unexplained(
            EXPLANATION_STATUS_NO_EXPLANATION,
            "Probes refuted every rule." if state.results else "No rule holds in the evidence.",
        )
    occurrences = lay_out(evidence)
    parts, owners = _refitted(occurrences, _withstood(live, evidence, state))
    if not parts:
        return _unexplained(
            EXPLANATION_STATUS_NO_EXPLANATION,
            "Every rule stayed silent in fresh sentences that were written to fit it.",
        )
    result = fitted(occurrences, parts)
    reason = _too_weak(result)
    if result is None or reason:
        return _unexplained(EXPLANATION_STATUS_NO_EXPLANATION, reason)
    return _explained(evidence, state, occurrences, result, owners)


def _withstood(
    live: Sequence[Hypothesis], evidence: Evidence, state: RunState
) -> list[tuple[Hypothesis, PatternRule]]:
    """The rules that probes did not refute, each with its hypothesis."""
    trials = Trials(state.results)
    reference = evidence.facts.reference_max
    return [
        (h, rule)
        for h in live
        for rule in part_of(h).rules
        if not trials.of_rule(rule).refuted(reference)
    ]


def _refitted(
    occurrences: Occurrences, owned: Sequence[tuple[Hypothesis, PatternRule]]
) -> tuple[list[PatternPart], list[Hypothesis]]:
    """The parts of the hypotheses with strengths fitted together, strongest first, and
    the hypothesis of each. Rules that only probes have shown keep their strength."""
    live = list({h.id: h for h, _ in owned}.values())
    seen = [(h, r) for h, r in owned if (occurrences.rule_mask(r) & (occurrences.weight > 0)).any()]
    unseen = [(h, r) for h, r in owned if (h, r) not in seen]
    rules = calibrated(occurrences, refit(occurrences, [r for _, r in seen], keep_all=True))
    by_owner: dict[str, list[int]] = {h.id: [] for h in live}
    final = [*rules, *(r for _, r in unseen)]
    for position, (h, _) in enumerate([*seen, *unseen]):
        if final[position].strength > 0:
            by_owner[h.id].append(position)
    kept = [(h, [final[i] for i in by_owner[h.id]]) for h in live if by_owner[h.id]]
    parts = [PatternPart(label=part_of(h).label, rules=rules) for h, rules in kept]
    order = sorted(range(len(parts)), key=lambda i: -_reach(occurrences, parts[i]))
    return [parts[i] for i in order], [kept[i][0] for i in order]


def _reach(occurrences: Occurrences, part: PatternPart) -> float:
    """Activation at the rows that a part predicts, weighted."""
    matched = predictions(occurrences, part.rules) > 0
    return float((occurrences.weight * occurrences.share)[matched].sum())


def _too_weak(result: Fitted | None) -> str:
    """Why the fit is no explanation; empty where it is one."""
    if result is None:
        return "Every rule was silent in the evidence."
    if result.correlation < MIN_CORRELATION:
        return (
            f"The best rules reach a correlation of {result.correlation:.2f} with the activation "
            "on the evidence itself, which is noise."
        )
    coverage = sum(m.recall for m in result.measures) or max(m.coverage for m in result.measures)
    if coverage < MIN_COVERAGE:
        return f"The best rules predict {coverage:.0%} of the active windows of the evidence."
    return ""


def _explained(
    evidence: Evidence,
    state: RunState,
    occurrences: Occurrences,
    result: Fitted,
    owners: Sequence[Hypothesis],
) -> Explanation:
    positional = _positional_share(occurrences, result) >= POSITIONAL_SHARE
    return Explanation(
        status=EXPLANATION_STATUS_POSITIONAL if positional else EXPLANATION_STATUS_EXPLAINED,
        label=pattern_label(result.pattern),
        description=_fitting(describe(result.pattern)),
        parts=[
            _part(part, measure, evidence, owner, state.results)
            for part, measure, owner in zip(
                result.pattern.parts, result.measures, owners, strict=True
            )
        ],
        pattern=result.pattern,
        status_detail=f"Pearson on the evidence at natural prevalence: {result.correlation:.2f}.",
    )


def _part(
    part: PatternPart,
    measure: PartMeasure,
    evidence: Evidence,
    owner: Hypothesis,
    results: Sequence[ProbeResult],
) -> ExplanationPart:
    message = ExplanationPart(
        statement=describe_part(part),
        window_citations=claimed_windows(part, evidence)[:_MAX_CITATIONS],
        probe_citations=[r.probe.id for r in results if _shows(r, owner)][:_MAX_CITATIONS],
        recall=measure.recall,
    )
    if measure.precision is not None:
        message.precision = measure.precision
    return message


def _shows(result: ProbeResult, owner: Hypothesis) -> bool:
    """Whether a probe bears the hypothesis out."""
    wanted = PROBE_OUTCOME_ACTIVE if result.probe.predicted_active else PROBE_OUTCOME_SILENT
    return result.probe.hypothesis_id == owner.id and result.outcome == wanted


def _positional_share(occurrences: Occurrences, result: Fitted) -> float:
    """Share of the activation at predicted rows that rules about place alone predict."""
    rules = [rule for part in result.pattern.parts for rule in part.rules]
    placed = [r for r in rules if r.token.token_class in POSITIONS and not r.left]
    activation = occurrences.weight * occurrences.share
    explained = float(activation[predictions(occurrences, rules) > 0].sum())
    by_place = float(activation[predictions(occurrences, placed) > 0].sum())
    return by_place / explained if explained > 0 else 0.0


def _fitting(text: str) -> str:
    if len(text) <= MAX_DESCRIPTION_LENGTH:
        return text
    return text[: MAX_DESCRIPTION_LENGTH - 1] + "…"


def _unexplained(status: ExplanationStatus.ValueType, detail: str) -> Explanation:
    return Explanation(status=status, status_detail=detail)
