"""What the weights say, asked of Triton: a front without torch answers it too."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.activation.encoder.fact_records import FeatureFacts
from services.activation.triton import wire
from services.activation.triton.backend import TritonBackend
from services.activation.triton.wire import Request, Task

_TOKENS_PER_REQUEST = 16
"""An answer holds one number per token of the vocabulary for each: a few MB in all."""


class TritonFacts:
    """A ``FactsSource`` over a backend, which stays the owner of the connection."""

    def __init__(self, backend: TritonBackend) -> None:
        self._backend = backend

    async def feature(
        self, sae_id: str, feature: int, vocabulary_size: int
    ) -> tuple[FeatureFacts, NDArray[np.float32]]:
        """Facts of one feature, and the decoder cosine of every feature with it.

        Raises:
            InvalidArgument: FEATURE_OUT_OF_RANGE; and what the backend raises.
        """
        answer = await self._backend.ask(
            Request(Task.FEATURE, sae_id, features=(feature,), vocabulary_size=vocabulary_size)
        )
        return wire.decode_facts(answer)

    async def tokens(self, sae_id: str, token_ids: Sequence[int]) -> list[NDArray[np.float32]]:
        """Per token the embedding cosine of every token of the vocabulary with it.

        Raises:
            InvalidArgument: FIELD_INVALID; and what the backend raises.
        """
        ids = np.array(token_ids, dtype=np.int64)
        parts = np.split(ids, range(_TOKENS_PER_REQUEST, len(ids), _TOKENS_PER_REQUEST))
        found = await asyncio.gather(*(self._part(sae_id, part) for part in parts if len(part)))
        return [row for rows in found for row in rows]

    async def close(self) -> None:
        """Nothing to close: see the class."""

    async def _part(self, sae_id: str, ids: NDArray[np.int64]) -> list[NDArray[np.float32]]:
        answer = await self._backend.ask(Request(Task.TOKENS, sae_id, rows=(ids,)))
        return wire.decode_cosines(answer, len(ids))
