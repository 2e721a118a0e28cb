"""Facts from the weights by way of Triton equal those computed in this process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from services.activation.encoder.facts import decoder_cosines, feature_facts, token_cosines
from services.activation.loading import RegistryLoader
from services.activation.registry import Registry
from services.activation.triton.backend import TritonBackend
from services.activation.triton.facts import TritonFacts
from services.common.errors import InvalidArgument
from tests.activation.triton.conftest import LIMITS

pytestmark = pytest.mark.triton


async def test_facts_of_a_feature_are_those_of_the_weights(
    backend: TritonBackend, registry: Registry, tmp_path: Path
) -> None:
    """Guards against records that lose their order or their numbers on the way."""
    loaded = RegistryLoader(registry, tmp_path, "cpu", LIMITS)("tiny-relu")
    expected = feature_facts(
        loaded.encoder.model,
        loaded.sae,
        17,
        vocabulary_size=300,
        neighbor_count=10,
        token_count=20,
    )
    facts, cosines = await TritonFacts(backend).feature("tiny-relu", 17, 300)
    assert facts.feature == 17
    assert [s.index for s in facts.nearest_features] == [s.index for s in expected.nearest_features]
    assert [s.index for s in facts.promoted_tokens] == [s.index for s in expected.promoted_tokens]
    assert [s.score for s in facts.suppressed_tokens] == pytest.approx(
        [s.score for s in expected.suppressed_tokens], rel=1e-5
    )
    assert facts.decoder_norm == pytest.approx(expected.decoder_norm, rel=1e-6)
    np.testing.assert_allclose(cosines, decoder_cosines(loaded.sae, 17), atol=1e-6)


async def test_token_cosines_keep_the_order_asked_for(
    backend: TritonBackend, registry: Registry, tmp_path: Path
) -> None:
    """More tokens than one request holds: parts must come back in order."""
    model = RegistryLoader(registry, tmp_path, "cpu", LIMITS)("tiny-relu").encoder.model
    ids = [399, 5, *range(100, 140)]
    found = await TritonFacts(backend).tokens("tiny-relu", ids)
    assert len(found) == len(ids)
    for token_id, cosines in zip(ids, found, strict=True):
        np.testing.assert_allclose(cosines, token_cosines(model, token_id), atol=1e-6)


async def test_features_and_tokens_out_of_range_are_refused(backend: TritonBackend) -> None:
    """Typed, and not the server's failure."""
    with pytest.raises(InvalidArgument) as caught:
        await TritonFacts(backend).feature("tiny-relu", 96, 300)
    assert caught.value.reason == "FEATURE_OUT_OF_RANGE"
    with pytest.raises(InvalidArgument):
        await TritonFacts(backend).tokens("tiny-relu", [400])
