"""Engine and weights in this process. Imports torch: only import it where a model is loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from services.activation.encoder.fact_records import FeatureFacts
from services.activation.encoder.inprocess import InProcessBackend
from services.activation.encoder.loaded import LoadedSae, SaeLoader
from services.activation.triton.wire import SaeDescription
from services.activation.weights import describe, facts_of, token_cosines_of

T = TypeVar("T")


class LocalEngine(InProcessBackend):
    """The in-process backend, which can also say what it has loaded."""

    async def describe(self, sae_id: str) -> SaeDescription:
        """What is loaded for ``sae_id``; loads it if need be."""
        return describe(await self.loaded(sae_id))


class WeightFacts:
    """What the weights say of features and tokens; off the event loop, one question at a time."""

    def __init__(self, load: SaeLoader) -> None:
        self._load = load
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="facts")

    async def feature(
        self, sae_id: str, feature: int, vocabulary_size: int
    ) -> tuple[FeatureFacts, NDArray[np.float32]]:
        """Facts of one feature, and the decoder cosine of every feature with it."""
        return await self._ask(sae_id, lambda loaded: facts_of(loaded, feature, vocabulary_size))

    async def tokens(self, sae_id: str, token_ids: Sequence[int]) -> list[NDArray[np.float32]]:
        """Per token the embedding cosine of every token of the vocabulary with it."""
        ids = list(token_ids)
        return await self._ask(sae_id, lambda loaded: token_cosines_of(loaded, ids))

    async def close(self) -> None:
        """Wait for the question that is being answered."""
        await asyncio.to_thread(self._thread.shutdown)

    async def _ask(self, sae_id: str, question: Callable[[LoadedSae], T]) -> T:
        def answer() -> T:
            with self._load.lease(sae_id) as loaded:
                return question(loaded)

        return await asyncio.get_running_loop().run_in_executor(self._thread, answer)
