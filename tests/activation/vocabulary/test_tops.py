"""The strongest tokens of every feature, against a plain sort of the dense matrix."""

from __future__ import annotations

import numpy as np
import pytest

from services.activation.encoder.rows import SparseRow
from services.activation.vocabulary import tops
from services.activation.vocabulary.tops import NO_TOKEN, TopTokens

TOKENS, FEATURES, TOP = 97, 7, 5


def values() -> np.ndarray:
    rng = np.random.default_rng(0)
    dense = rng.integers(0, 6, (TOKENS, FEATURES)).astype(np.float32)  # many equal values
    dense[:, 3] = 0.0
    dense[4:, 5] = 0.0
    return dense


def sparse(dense: np.ndarray) -> SparseRow:
    rows, columns = np.nonzero(dense)
    counts = np.bincount(rows, minlength=len(dense))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return SparseRow(offsets, columns.astype(np.int32), dense[rows, columns])


@pytest.mark.parametrize("batch", [1, 10, TOKENS])
@pytest.mark.parametrize("fold", [1, 50, 10**6])
def test_batches_and_folds_do_not_change_the_result(
    batch: int, fold: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against tokens lost when entries are folded, and against an order of equal values
    that follows the batches."""
    monkeypatch.setattr(tops, "_ENTRIES_PER_FOLD", fold)
    dense, ids = values(), np.arange(1_000, 1_000 + TOKENS, dtype=np.int64)
    floors = np.array([3.0, 0, 3, 3, 3, 3, 3], np.float32)
    gathered = TopTokens(FEATURES, TOP, floors)
    for start in reversed(range(0, TOKENS, batch)):
        part = slice(start, start + batch)
        gathered.add(ids[part], sparse(dense[part]))
    found = gathered.result()
    for feature in range(FEATURES):
        column = dense[:, feature]
        best = [i for i in sorted(range(TOKENS), key=lambda i: (-column[i], i)) if column[i] > 0]
        best = best[:TOP]
        empty = TOP - len(best)
        assert found.token_ids[feature].tolist() == [1_000 + i for i in best] + [NO_TOKEN] * empty
        assert found.values[feature].tolist() == [column[i] for i in best] + [0.0] * empty
        assert found.positive[feature] == (column > 0).sum()
        assert found.active[feature] == ((column >= 3).sum() if feature != 1 else 0)


def test_a_feature_that_never_fires_has_no_token() -> None:
    found = TopTokens(2, 3).result()
    assert (found.token_ids == NO_TOKEN).all()
    assert not found.positive.any()
