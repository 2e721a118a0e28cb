"""Which held-out exemplars SAGE's predictive score reads: ranks in three bands."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

EXCLUDED = 10
"""Strongest ranks left out: they set the thresholds."""

DRAWN: Mapping[str, int] = {"high": 4, "medium": 3, "low": 3}
"""Ranks drawn from each band."""


def rank_bands(exemplar_count: int) -> dict[str, tuple[int, int]]:
    """Half-open bands of ranks (0 the strongest): from the 10th to 40 %, to 70 %, to the end.

    Where 40 % does not reach beyond the excluded ranks the bands take at least 4 and 3
    ranks behind them. Empty for at most ten exemplars.
    """
    n = exemplar_count
    if n <= EXCLUDED:
        return {}
    # Products in double precision, as published: int(0.7 * 90) is 62.
    high_end, medium_end = int(0.4 * n), int(0.7 * n)
    if high_end <= EXCLUDED:
        high_end = min(EXCLUDED + max(4, int(0.2 * n)), n)
    if medium_end <= high_end:
        medium_end = min(high_end + max(3, int(0.2 * n)), n)
    return {"high": (EXCLUDED, high_end), "medium": (high_end, medium_end), "low": (medium_end, n)}


def enough(exemplar_count: int) -> bool:
    """Whether every band has as many ranks as are drawn from it: 21, 26, 27 or from 35
    exemplars on. With fewer the published evaluation is skipped."""
    bands = rank_bands(exemplar_count)
    return bool(bands) and all(end - begin >= DRAWN[b] for b, (begin, end) in bands.items())


def draw_ranks(exemplar_count: int, seed: int) -> list[int]:
    """4, 3 and 3 ranks from the bands, rising; all of a band that has fewer."""
    rng = np.random.default_rng(seed % 2**64)
    ranks: list[int] = []
    for band, (begin, end) in rank_bands(exemplar_count).items():
        count = min(DRAWN[band], end - begin)
        ranks += sorted(int(r) for r in rng.choice(np.arange(begin, end), count, replace=False))
    return ranks
