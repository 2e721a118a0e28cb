"""Who answers what the weights say; apart, so that the gRPC face needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.activation.encoder.fact_records import FeatureFacts


class FactsSource(Protocol):
    """Facts of features and tokens from the weights. Raises what loading raises."""

    async def feature(
        self, sae_id: str, feature: int, vocabulary_size: int
    ) -> tuple[FeatureFacts, NDArray[np.float32]]:
        """Facts of one feature, and the decoder cosine of every feature with it. Only tokens below
        ``vocabulary_size`` are listed."""
        ...

    async def tokens(self, sae_id: str, token_ids: Sequence[int]) -> list[NDArray[np.float32]]:
        """Per token the embedding cosine of every token of the vocabulary with it."""
        ...

    async def close(self) -> None:
        """End what runs."""
        ...
