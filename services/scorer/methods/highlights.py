"""Which tokens of a window are highlighted (EleutherAI's delphi)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from saexplain.common.v1.window_pb2 import Window
from services.scorer.evidence import activations

HIGHLIGHT_SHARE = 0.3
"""Tokens from this share of the window's own maximum on are highlighted."""


def firing_places(window: Window) -> list[int]:
    """Places at which the feature fires strongly for this window, rising; none in a
    silent one."""
    values = activations(window)
    if not values.max() > 0:
        return []
    places: list[int] = np.flatnonzero(values >= HIGHLIGHT_SHARE * values.max()).tolist()
    return places


def random_places(among: Sequence[int], count: int, rng: np.random.Generator) -> list[int]:
    """At most `count` of some places, at least one where there are any, rising."""
    wanted = min(max(count, 1), len(among))
    return sorted(int(p) for p in rng.choice(np.asarray(among, np.int64), wanted, replace=False))
