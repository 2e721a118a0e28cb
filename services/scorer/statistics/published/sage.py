"""SAGE's published code (arXiv 2511.20820): which held-out exemplars it draws."""

from __future__ import annotations

import random

from services.scorer.statistics.bands import DRAWN, rank_bands


def sage_draw(exemplar_count: int, seed: int) -> dict[str, list[int]]:
    """The ranks of each band as CPython's `random.seed(seed)` and `random.sample` give
    them; a band with too few ranks gives all, in order. `bands.draw_ranks` is our own draw."""
    rng = random.Random(seed)
    drawn = {}
    for band, (begin, end) in rank_bands(exemplar_count).items():
        ranks = list(range(begin, end))
        few = len(ranks) < DRAWN[band]
        drawn[band] = ranks if few else rng.sample(ranks, DRAWN[band])
    return drawn
