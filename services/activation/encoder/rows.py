"""Rows of tokens in, rows of activations out: the plain records that every backend speaks.

Free of torch, so that a front without a model can use them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.common.errors import InvalidArgument

TokenRow = NDArray[np.int64]
"""One text as the model reads it: token ids [n_tokens], the begin-of-sequence token first."""

FIRST_SCORED_POSITION = 1
"""Positions before this one are never scored."""

DenseRow = NDArray[np.float32]
"""Activations of one row, float32 [n_tokens, n_features]; row 0 is all zero."""


@dataclass(frozen=True)
class SparseRow:
    """All features of one row above zero, as CSR over its tokens."""

    indptr: NDArray[np.int64]
    """[n_tokens + 1]; token t owns entries ``indptr[t]:indptr[t + 1]``. Token 0 owns none."""
    features: NDArray[np.int32]
    """Feature index per entry, ascending within a token."""
    values: NDArray[np.float32]
    """Activation per entry, above zero."""

    def above(self, threshold: float) -> SparseRow:
        """Only the entries greater than ``threshold``."""
        return self._keep(self.values > threshold)

    def top(self, count: int) -> SparseRow:
        """The ``count`` largest entries of each token; ties go to the lower feature index."""
        tokens = self._tokens()
        order = np.lexsort((self.features, -self.values, tokens))
        rank = np.arange(len(order)) - self.indptr[tokens[order]]
        keep = np.zeros(len(order), dtype=bool)
        keep[order[rank < count]] = True
        return self._keep(keep)

    def _tokens(self) -> NDArray[np.int64]:
        return np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr))

    def _keep(self, mask: NDArray[np.bool_]) -> SparseRow:
        counts = np.bincount(self._tokens()[mask], minlength=len(self.indptr) - 1)
        indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return SparseRow(indptr, self.features[mask], self.values[mask])


def check_rows(rows: Sequence[TokenRow], *, vocabulary_size: int, maximum_tokens: int) -> None:
    """Refuse rows the model cannot read.

    Raises:
        InvalidArgument: TEXT_EMPTY, FIELD_INVALID or TEXT_TOO_LONG, naming the row.
    """
    for index, row in enumerate(rows):
        field = f"rows[{index}]"
        if len(row) == 0:
            raise InvalidArgument(
                "a row needs at least one token", field=field, reason="TEXT_EMPTY"
            )
        if len(row) > maximum_tokens:
            message = f"{len(row)} tokens, at most {maximum_tokens} are allowed"
            raise InvalidArgument(message, field=field, reason="TEXT_TOO_LONG")
        if int(row.min()) < 0 or int(row.max()) >= vocabulary_size:
            message = f"token ids must be in [0, {vocabulary_size})"
            raise InvalidArgument(message, field=field)
