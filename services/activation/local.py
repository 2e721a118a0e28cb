"""Engine and weights in this process. Imports torch: only import it where a model is loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from services.activation.encoder.backend import EncoderLimits
from services.activation.encoder.fact_records import FeatureFacts
from services.activation.encoder.facts import (
    decoder_cosines,
    feature_facts,
    token_cosines,
)
from services.activation.encoder.inprocess import InProcessBackend, SaeLoader
from services.activation.triton.executor import describe
from services.activation.triton.wire import SaeDescription


class LocalEngine(InProcessBackend):
    """The in-process backend, which can also say what it has loaded."""

    def __init__(self, load: SaeLoader, limits: EncoderLimits) -> None:
        super().__init__(load, limits)

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
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._feature, sae_id, feature, vocabulary_size
        )

    async def tokens(self, sae_id: str, token_ids: Sequence[int]) -> list[NDArray[np.float32]]:
        """Per token the embedding cosine of every token of the vocabulary with it."""
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._tokens, sae_id, list(token_ids)
        )

    async def close(self) -> None:
        """Wait for the question that is being answered."""
        await asyncio.to_thread(self._thread.shutdown)

    def _feature(
        self, sae_id: str, feature: int, vocabulary_size: int
    ) -> tuple[FeatureFacts, NDArray[np.float32]]:
        loaded = self._load(sae_id)
        facts = feature_facts(
            loaded.encoder.model,
            loaded.sae,
            feature,
            vocabulary_size=vocabulary_size,
            neighbor_count=10,
            token_count=20,
        )
        return facts, decoder_cosines(loaded.sae, feature)

    def _tokens(self, sae_id: str, token_ids: list[int]) -> list[NDArray[np.float32]]:
        model = self._load(sae_id).encoder.model
        return [token_cosines(model, token_id) for token_id in token_ids]
