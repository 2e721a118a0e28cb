"""Feature facts and fingerprints, against formulas written out again here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from services.activation.encoder import facts
from services.activation.encoder.fingerprints import (
    CACHE_FILE,
    fingerprints_of,
    model_fingerprint,
    sae_fingerprint,
)
from services.activation.encoder.model import CutModel, load_model
from services.activation.encoder.sae import Sae, load_sae
from services.activation.encoder.sources import ModelSource, SaeSource
from services.activation.encoder.tokenizer import TextTokenizer
from services.common.errors import InvalidArgument
from tests.activation import tiny


def test_promoted_tokens_follow_norm_and_unembedding(model: CutModel, sae: Sae) -> None:
    """Guards against an unfolded norm weight; the formula is RMSNorm's, written out."""
    found = facts.feature_facts(model, sae, 11, vocabulary_size=390, token_count=5)
    direction = sae.weights["W_dec"][11]
    logits = model.model.lm_head.weight @ (direction * model.base.norm.weight)
    logits = logits[:390]  # what lies behind is no token
    order = logits.argsort(descending=True).tolist()
    assert [token.index for token in found.promoted_tokens] == order[:5]
    assert [token.index for token in found.suppressed_tokens] == order[::-1][:5]
    assert found.promoted_tokens[0].score == pytest.approx(float(logits.max()), rel=1e-4)
    assert found.decoder_norm == pytest.approx(float(direction.norm()))


def test_nearest_features_are_those_of_the_largest_cosine(model: CutModel, sae: Sae) -> None:
    found = facts.feature_facts(
        model, sae, 11, vocabulary_size=390, neighbor_count=4
    ).nearest_features
    decoder = sae.weights["W_dec"]
    cosines = torch.cosine_similarity(decoder, decoder[11][None])
    expected = [i for i in cosines.argsort(descending=True).tolist() if i != 11][:4]
    assert [neighbor.index for neighbor in found] == expected
    assert found[0].score == pytest.approx(float(cosines[expected[0]]), abs=1e-5)


def test_cosines_are_those_of_embeddings_and_decoder_rows(model: CutModel, sae: Sae) -> None:
    expected = torch.cosine_similarity(model.embedding, model.embedding[7][None])
    assert facts.token_cosines(model, 7) == pytest.approx(expected.numpy(), abs=1e-5)
    decoder = sae.weights["W_dec"]
    expected = torch.cosine_similarity(decoder, decoder[7][None])
    assert facts.decoder_cosines(sae, 7) == pytest.approx(expected.numpy(), abs=1e-5)
    with pytest.raises(InvalidArgument):
        facts.token_cosines(model, 400)
    with pytest.raises(InvalidArgument):
        facts.feature_facts(model, load_nothing_else(), tiny.D_SAE, vocabulary_size=390)


def load_nothing_else() -> Sae:
    from services.activation.encoder.sae import read_config
    from services.activation.encoder.saes.topk import TopKSae

    return TopKSae(read_config(tiny.sae_config("topk")), tiny.sae_weights("topk"))


def test_fingerprints_change_with_what_changes_values(
    model: CutModel, model_folder: Path, sae: Sae, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    """Guards against other weights under a known id."""
    ours = fingerprints_of(model, ModelSource(str(model_folder)), sae, tokenizer)
    assert sae_fingerprint(load_nothing_else()) == ours.sae
    other_k = load_sae(SaeSource(str(tiny.write_sae(tmp_path / "k", k=5))))
    other_weights = load_sae(SaeSource(str(tiny.write_sae(tmp_path / "w", seed=1))))
    assert len({ours.sae, sae_fingerprint(other_k), sae_fingerprint(other_weights)}) == 3

    folder = tiny.write_model(tmp_path / "model", seed=1)
    other = model_fingerprint(load_model(ModelSource(str(folder)), 2), ModelSource(str(folder)), 2)
    assert other != ours.model


def test_a_models_fingerprint_is_remembered_until_its_files_change(
    model: CutModel, tmp_path: Path
) -> None:
    """Guards against a stale answer for new weights, and against hashing at every start."""
    source = ModelSource(str(tiny.write_model(tmp_path / "model")))
    first = model_fingerprint(model, source, 2)
    cache = tmp_path / "model" / CACHE_FILE
    known = json.loads(cache.read_text())
    assert list(known.values()) == [first]
    cache.write_text(json.dumps(dict.fromkeys(known, "remembered")))
    assert model_fingerprint(model, source, 2) == "remembered"
    assert model_fingerprint(model, source, 1) not in (first, "remembered")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b"\0")
    assert model_fingerprint(model, source, 2) == first
