"""The whole fit: evidence in, parts with strengths and measures out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from saexplain.agent.v1.agent_pb2 import Evidence
from saexplain.common.v1.pattern_pb2 import Pattern, PatternPart, PatternRule
from services.agent.explainers.lexical import weights
from services.agent.explainers.lexical.measures import PartMeasure, correlation, part_measures
from services.agent.explainers.lexical.occurrences import Occurrences, predictions
from services.agent.explainers.lexical.parts import group
from services.agent.explainers.lexical.search import RuleSearch
from services.agent.explainers.lexical.strengths import calibration, refit, scaled


@dataclass(frozen=True)
class Fitted:
    """A pattern with what it does on the evidence that it was fitted on.

    Attributes:
        pattern: at least one part.
        measures: one per part.
        correlation: Pearson with the measured shares at natural prevalence.
    """

    pattern: Pattern
    measures: tuple[PartMeasure, ...]
    correlation: float


def fires(evidence: Evidence) -> bool:
    """Whether the feature fires anywhere in the evidence."""
    return evidence.facts.reference_max > 0 and any(
        value > 0
        for entry in evidence.windows
        for window in entry.windows
        for value in window.activations
    )


def lay_out(evidence: Evidence) -> Occurrences:
    """The evidence as columns. Needs a feature that `fires`."""
    return Occurrences.of(weights.stretches(evidence))


def search(evidence: Evidence, occurrences: Occurrences, max_parts: int) -> Fitted | None:
    """The best rule set for the evidence, or None where no rule pays for itself."""
    rules = RuleSearch(occurrences).run()
    if not rules:
        return None
    rules = calibrated(occurrences, refit(occurrences, rules))
    parts = group(occurrences, rules, evidence.token_neighbors, max_parts)
    return fitted(occurrences, parts)


def calibrated(occurrences: Occurrences, rules: Sequence[PatternRule]) -> list[PatternRule]:
    """The rules on the scale of the verdicts (see `strengths`)."""
    return scaled(rules, calibration(occurrences, predictions(occurrences, rules)))


def fitted(occurrences: Occurrences, parts: Sequence[PatternPart]) -> Fitted | None:
    """Measures of given parts; None where there are none."""
    if not parts:
        return None
    rules = [list(part.rules) for part in parts]
    everything = predictions(occurrences, [rule for part in rules for rule in part])
    return Fitted(
        pattern=Pattern(parts=parts),
        measures=tuple(part_measures(occurrences, rules)),
        correlation=correlation(occurrences, everything),
    )
