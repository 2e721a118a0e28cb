"""What a predicted strength says to the question whether the feature fires at all.

Methods that ask for the strength call a window active from half of the reference maximum
on. The published classifiers ask less: whether the feature fires, however weakly. A
prediction answers yes to that from a tenth of the reference maximum on, below which an
outcome is SILENT (method, section 1). Rated in three steps (FADE), ACTIVE, WEAK and SILENT
are clearly, partly and not.
"""

from __future__ import annotations

from services.scorer.baselines import ACTIVE_SHARE

FIRES_SHARE = 0.1


def firing_likelihood(share: float) -> float:
    """A likelihood in [0, 1] that rises with the predicted share (>= 0) and is one half at
    `FIRES_SHARE`."""
    if share < FIRES_SHARE:
        return 0.5 * share / FIRES_SHARE
    return 0.5 + 0.5 * (min(share, 1.0) - FIRES_SHARE) / (1 - FIRES_SHARE)


CLEARLY, PARTLY, NOT = 2, 1, 0
"""Ratings."""


def rating_of(share: float) -> int:
    """The rating that a predicted share (>= 0) amounts to."""
    if share >= ACTIVE_SHARE:
        return CLEARLY
    return PARTLY if share >= FIRES_SHARE else NOT
