"""The shipped SAE loads with SAELens and does on held-out text what its card says.

Guards against a card that was written for other weights, and against a loss in conversion to
half precision. Load-bearing: the figures measured anew on a few held-out documents.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE
from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig
from safetensors.torch import load_file

from demo.card import add_funnel, write_card
from demo.corpus_rows import CorpusDocument, is_held_out, rows
from demo.evaluation import reconstruction
from demo.residual_stream import CutModel
from demo.train_sae import ship


@pytest.fixture(scope="module")
def sae(sae_folder: Path) -> Any:
    """The shipped SAE in float32."""
    return SAE.load_from_disk(sae_folder, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def card(sae_folder: Path) -> dict[str, Any]:
    """The shipped card's record."""
    return dict(json.loads((sae_folder / "card.json").read_text(encoding="utf-8")))


def test_sizes_types_and_contract_are_those_of_the_design(sae: Any, sae_folder: Path) -> None:
    """A SAE for another hook or another input convention would load just as well."""
    assert (sae.cfg.d_in, sae.cfg.d_sae, sae.cfg.k) == (576, 4_608, 24)
    assert sae.cfg.architecture() == "topk"
    assert {p.dtype for p in sae.parameters()} == {torch.float32}
    shipped = load_file(sae_folder / "sae_weights.safetensors")
    assert {value.dtype for value in shipped.values()} == {torch.float16}
    metadata = sae.cfg.metadata
    assert metadata.hook_name == "blocks.8.hook_resid_post"
    assert metadata.model_name == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert (metadata.context_size, metadata.prepend_bos) == (128, True)
    assert metadata.excluded_positions == [0]
    assert (sae_folder / "sae_weights.safetensors").stat().st_size < 10_700_000


def test_the_card_meets_the_bars(card: dict[str, Any]) -> None:
    """The bars of the demo: variance explained, dead latents, loss recovered."""
    held_out = card["held_out"]
    assert held_out["explained_variance"] >= 0.80
    assert held_out["dead_share"] <= 0.05
    assert held_out["l0"] == pytest.approx(24, abs=0.5)
    loss = held_out["cross_entropy_nats"]
    assert loss["original"] <= loss["sae"] < loss["mean_ablated"] < loss["zero_ablated"]
    assert sum(held_out["density_histogram"].values()) == 4_608


def test_held_out_documents_measured_anew_agree_with_the_card(
    sae: Any, card: dict[str, Any], corpus: list[CorpusDocument], model_folder: Path
) -> None:
    """A card that was not measured on these weights."""
    model = CutModel(model_folder)
    held_out = [document for document in corpus if is_held_out(document.source)][::12]
    chosen = list(rows(held_out, model_folder, 128, model.bos_id))[:20]
    measured = reconstruction(sae, model, chosen)
    stated = card["held_out"]["explained_variance"]
    assert measured.explained_variance == pytest.approx(stated, abs=0.05)
    assert measured.l0 == pytest.approx(card["held_out"]["l0"], abs=0.5)


def test_an_untrained_sae_would_miss_the_bars(
    corpus: list[CorpusDocument], model_folder: Path
) -> None:
    """The measurement must be able to fail."""
    torch.manual_seed(0)
    untrained = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=576, d_sae=512, k=24))
    model = CutModel(model_folder)
    chosen = list(rows(corpus[:2], model_folder, 128, model.bos_id))[:6]
    assert reconstruction(untrained, model, chosen).explained_variance < 0.5


def test_what_ships_encodes_as_what_was_trained(tmp_path: Path) -> None:
    """Decoder norms folded twice, or not at all, change which latents are in the top k."""
    torch.manual_seed(1)
    trained = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=16, d_sae=64, k=4))
    trained.W_dec.data *= torch.rand(64, 1) + 0.5
    trained.b_dec.data = torch.randn(16)
    ship(trained, tmp_path, {})
    loaded = SAE.load_from_disk(tmp_path, device="cpu", dtype="float32")
    batch = torch.randn(200, 16)
    before, after = trained.encode(batch), loaded.encode(batch)
    same = (before > 0) == (after > 0)
    assert same.all(dim=1).double().mean() > 0.95
    agree = same.all(dim=1)
    torch.testing.assert_close(after[agree], before[agree], rtol=5e-3, atol=5e-3)
    torch.testing.assert_close(
        loaded.decode(after)[agree], trained.decode(before)[agree], rtol=2e-2, atol=2e-2
    )


def test_the_funnel_joins_the_card_only_when_it_adds_up(
    card: dict[str, Any], tmp_path: Path
) -> None:
    """A funnel of another SAE's index."""
    write_card(tmp_path, card)
    counts = {"dead": 8, "too_rare": 600, "eligible": 3_691, "dense": 300, "very_dense": 9}
    add_funnel(tmp_path, counts, {"fingerprint": "abc", "documents": 10, "tokens": 1_000})
    assert "| eligible | 3691 |" in (tmp_path / "README.md").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="not 4608"):
        add_funnel(tmp_path, counts | {"dead": 9}, {"fingerprint": "abc"})
    with pytest.raises(ValueError, match="lacks too_rare"):
        add_funnel(tmp_path, {"dead": 8}, {"fingerprint": "abc"})
