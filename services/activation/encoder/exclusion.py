"""Tokens that an SAE was trained without have no activations.

SAELens leaves the special tokens out of training where ``exclude_special_tokens`` says so. What
such an SAE computes there was never optimised, so it is reported as 0, like the first position.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np

from services.activation.encoder.rows import DenseRow, SparseRow, TokenRow
from services.activation.encoder.saes.base import Sae

Row = TypeVar("Row", DenseRow, SparseRow, DenseRow | SparseRow)


def silence(row: TokenRow, activations: Row, sae: Sae) -> Row:
    """Activations of one row with 0 at tokens that the SAE was trained without."""
    excluded = sae.config.silent_token_ids
    if not excluded:
        return activations
    silent = np.isin(row, excluded)
    if not silent.any():
        return activations
    if isinstance(activations, SparseRow):
        counts = np.diff(activations.indptr)
        keep = ~np.repeat(silent, counts)
        indptr = np.concatenate([[0], np.cumsum(np.where(silent, 0, counts))]).astype(np.int64)
        return replace(
            activations,
            indptr=indptr,
            features=activations.features[keep],
            values=activations.values[keep],
        )
    activations[silent] = 0.0
    return activations
