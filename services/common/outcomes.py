"""From a measured activation to ACTIVE, WEAK, SILENT or AMBIGUOUS (method, section 1)."""

from __future__ import annotations

from dataclasses import dataclass

from saexplain.common.v1.experiment_pb2 import (
    PROBE_OUTCOME_ACTIVE,
    PROBE_OUTCOME_AMBIGUOUS,
    PROBE_OUTCOME_SILENT,
    PROBE_OUTCOME_WEAK,
    ProbeOutcome,
)


@dataclass(frozen=True)
class OutcomeThresholds:
    """Shares of the feature's reference maximum, 0 < silent < active.

    Attributes:
        active_share: ACTIVE at or above.
        silent_share: SILENT below.
        ambiguity_share: half-width of the band around either threshold in which
            rounding could turn the verdict; there is none inside it.
    """

    active_share: float = 0.5
    silent_share: float = 0.1
    ambiguity_share: float = 1e-4

    def __post_init__(self) -> None:
        if not 0 < self.silent_share < self.active_share:
            raise ValueError("thresholds need 0 < silent_share < active_share")
        if not 0 <= self.ambiguity_share < (self.active_share - self.silent_share) / 2:
            raise ValueError("the ambiguous bands must not touch")


def classify(
    max_activation: float,
    reference_max: float,
    thresholds: OutcomeThresholds = OutcomeThresholds(),
) -> ProbeOutcome.ValueType:
    """The verdict on a text whose largest scored activation is `max_activation`.

    Raises:
        ValueError: `reference_max` is not above 0: a feature that never fires has no
            unit to measure in.
    """
    if not reference_max > 0:
        raise ValueError("reference_max must be > 0")
    share = max_activation / reference_max
    for threshold in (thresholds.active_share, thresholds.silent_share):
        if abs(share - threshold) < thresholds.ambiguity_share:
            return PROBE_OUTCOME_AMBIGUOUS
    if share >= thresholds.active_share:
        return PROBE_OUTCOME_ACTIVE
    return PROBE_OUTCOME_WEAK if share >= thresholds.silent_share else PROBE_OUTCOME_SILENT
