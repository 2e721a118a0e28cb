"""What a predicted strength says to the question whether the feature fires at all.

Methods that ask for the strength call a window active from half of the reference maximum
on. The published classifiers ask less: whether the feature fires, however weakly. A
prediction answers yes to that from a tenth of the reference maximum on, below which an
outcome is SILENT (method, section 1).
"""

from __future__ import annotations

FIRES_SHARE = 0.1


def firing_likelihood(share: float) -> float:
    """A likelihood in [0, 1] that rises with the predicted share (>= 0) and is one half at
    `FIRES_SHARE`."""
    if share < FIRES_SHARE:
        return 0.5 * share / FIRES_SHARE
    return 0.5 + 0.5 * (min(share, 1.0) - FIRES_SHARE) / (1 - FIRES_SHARE)
