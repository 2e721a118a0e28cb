"""Similarity of embedding vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from services.scorer.statistics.estimate import Floats


def cosines(vectors: Sequence[Floats], others: Sequence[Floats]) -> Floats:
    """Cosine of every vector [n, d] with every other [m, d], shape [n, m].

    Raises:
        ValueError: vectors of several lengths, or one that is all 0.
    """
    a, b = _unit(vectors), _unit(others)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"vectors of {a.shape[1]} and {b.shape[1]} numbers")
    product: Floats = a @ b.T
    return product


def _unit(vectors: Sequence[Floats]) -> Floats:
    if len({len(v) for v in vectors}) != 1:
        raise ValueError("vectors of several lengths")
    stacked = np.stack([np.asarray(v, np.float64) for v in vectors])
    lengths = np.linalg.norm(stacked, axis=1, keepdims=True)
    if not np.all(lengths > 0):
        raise ValueError("a vector is all 0")
    unit: Floats = stacked / lengths
    return unit
