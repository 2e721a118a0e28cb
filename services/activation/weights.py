"""What a loaded SAE says of itself without running a text; in process and in Triton alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.activation.encoder.fact_records import FeatureFacts
from services.activation.encoder.facts import decoder_cosines, feature_facts, token_cosines
from services.activation.encoder.loaded import LoadedSae
from services.activation.triton.wire import SaeDescription

NEIGHBOR_COUNT = 10
"""Nearest features of a feature's facts."""
TOKEN_COUNT = 20
"""Tokens promoted, and tokens suppressed, of a feature's facts."""


def describe(loaded: LoadedSae) -> SaeDescription:
    """Sizes, kind and fingerprints of what is loaded."""
    config, model = loaded.sae.config, loaded.encoder.model
    return SaeDescription(
        fingerprints=loaded.fingerprints,
        hook_point=str(config.hook),
        architecture=config.architecture,
        d_in=config.d_in,
        d_sae=config.d_sae,
        normalize_activations=config.normalize_activations,
        vocabulary_size=model.vocabulary_size,
        maximum_positions=model.maximum_positions,
        prepend_bos=config.prepend_bos,
        compute_dtype=model.compute_dtype,
        readout=loaded.readout,
    )


def facts_of(
    loaded: LoadedSae, feature: int, vocabulary_size: int
) -> tuple[FeatureFacts, NDArray[np.float32]]:
    """Facts of one feature, and the decoder cosine of every feature with it.

    Raises:
        InvalidArgument: FEATURE_OUT_OF_RANGE.
    """
    facts = feature_facts(
        loaded.encoder.model,
        loaded.sae,
        feature,
        vocabulary_size=vocabulary_size,
        neighbor_count=NEIGHBOR_COUNT,
        token_count=TOKEN_COUNT,
    )
    return facts, decoder_cosines(loaded.sae, feature)


def token_cosines_of(loaded: LoadedSae, token_ids: Sequence[int]) -> list[NDArray[np.float32]]:
    """Per token the embedding cosine of every token of the vocabulary with it.

    Raises:
        InvalidArgument: FIELD_INVALID.
    """
    return [token_cosines(loaded.encoder.model, token_id) for token_id in token_ids]
