"""Tokens behind a prefix, computed in this process. Imports torch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from services.activation.encoder.continuations import Continuations
from services.activation.encoder.loaded import LoadedSae, SaeLoader
from services.activation.encoder.rows import DenseRow, SparseRow, TokenRow

T = TypeVar("T")


class LocalContinuations:
    """A ``ContinuationSource`` over loaded models. One batch at a time; a model's forward pass
    takes its turn with those of ``Encode``."""

    name = "in_process"

    def __init__(self, load: SaeLoader) -> None:
        self._load = load
        self._continuations = Continuations()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="vocabulary")

    async def sparse(
        self, sae_id: str, prefix: TokenRow, token_ids: NDArray[np.int64]
    ) -> SparseRow:
        """See :class:`ContinuationSource`."""
        return await self._ask(
            sae_id,
            lambda loaded: self._continuations.sparse(
                loaded.encoder.model, loaded.sae, prefix, token_ids
            ),
        )

    async def dense(
        self,
        sae_id: str,
        prefix: TokenRow,
        token_ids: NDArray[np.int64],
        features: Sequence[int],
    ) -> DenseRow:
        """See :class:`ContinuationSource`."""
        return await self._ask(
            sae_id,
            lambda loaded: self._continuations.dense(
                loaded.encoder.model, loaded.sae, prefix, token_ids, features
            ),
        )

    async def close(self) -> None:
        """Wait for the batch that runs."""
        await asyncio.to_thread(self._thread.shutdown)

    async def _ask(self, sae_id: str, question: Callable[[LoadedSae], T]) -> T:
        def answer() -> T:
            with self._load.lease(sae_id) as loaded:
                return question(loaded)

        return await asyncio.get_running_loop().run_in_executor(self._thread, answer)
