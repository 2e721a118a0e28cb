"""Whole rows asked of a backend against single positions behind a shared prefix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from services.activation.encoder.backend import EncoderLimits
from services.activation.encoder.continuations import Continuations
from services.activation.encoder.encode import Encoder
from services.activation.encoder.identity import Fingerprints
from services.activation.encoder.rows import DenseRow, SparseRow, TokenRow
from services.activation.encoder.sae import Sae
from services.activation.vocabulary.source import RowsOfBackend

PREFIX = np.array([1, 5, 9, 20, 7], dtype=np.int64)
TOKENS = np.arange(3, 120, dtype=np.int64)
FEATURES = [7, 3, 90]


class RowsOnly:
    """A backend that knows nothing of prefixes, and how large its calls were."""

    def __init__(self, encoder: Encoder, sae: Sae) -> None:
        self._encoder, self._sae = encoder, sae
        self.calls: list[int] = []

    async def encode(
        self, sae_id: str, rows: Sequence[TokenRow], features: Sequence[int]
    ) -> list[DenseRow]:
        self.calls.append(len(rows))
        return self._encoder.encode(self._sae, rows, features)

    async def encode_sparse(self, sae_id: str, rows: Sequence[TokenRow]) -> list[SparseRow]:
        self.calls.append(len(rows))
        return self._encoder.encode_sparse(self._sae, rows)

    async def fingerprints(self, sae_id: str) -> Fingerprints:
        raise AssertionError("a probe asks for values only")

    async def close(self) -> None:
        raise AssertionError("the backend has another owner")


@pytest.mark.parametrize(
    ("max_rows", "budget", "largest"), [(512, 4_096, 117), (50, 4_096, 50), (512, 12, 16)]
)
async def test_whole_rows_give_what_a_shared_prefix_gives(
    encoder: Encoder, sae: Sae, max_rows: int, budget: int, largest: int
) -> None:
    """Guards against entries of the prefix among the answers, tokens lost between calls, and
    calls that a backend refuses because a prefix is long."""
    backend = RowsOnly(encoder, sae)
    limits = EncoderLimits(max_rows=max_rows, batch_token_budget=budget)
    source = RowsOfBackend(backend, "rows", limits)
    expected = Continuations().sparse(encoder.model, sae, PREFIX, TOKENS)
    found = await source.sparse("tiny", PREFIX, TOKENS)
    np.testing.assert_array_equal(found.indptr, expected.indptr)
    np.testing.assert_array_equal(found.features, expected.features)
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-4, atol=1e-4)
    assert found.features.dtype == np.int32 and found.values.dtype == np.float32
    dense = await source.dense("tiny", PREFIX, TOKENS, FEATURES)
    plain = Continuations().dense(encoder.model, sae, PREFIX, TOKENS, FEATURES)
    np.testing.assert_allclose(dense, plain, rtol=1e-4, atol=1e-4)
    assert max(backend.calls) == largest
    await source.close()


async def test_a_token_at_which_nothing_fires_keeps_its_place(encoder: Encoder, sae: Sae) -> None:
    """Guards against entries that move to the next token: the first position never fires."""
    source = RowsOfBackend(RowsOnly(encoder, sae), "rows", EncoderLimits())
    found = await source.sparse("tiny", PREFIX[:0], TOKENS[:4])
    assert found.indptr.tolist() == [0] * 5
    assert len(found.features) == len(found.values) == 0
