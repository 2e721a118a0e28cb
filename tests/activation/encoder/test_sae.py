"""SAEs encode what SAELens encodes.

Load-bearing: ``test_every_architecture_equals_sae_lens``, against an implementation that is not
ours. It guards against a forgotten decoder bias, rescale, gate or threshold.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from services.activation.encoder.sae import load_sae, read_config
from services.activation.encoder.sources import SaeSource
from services.common.errors import FailedPrecondition, InvalidArgument, Unimplemented
from tests.activation import tiny

CASES = [
    ("topk", {}),
    ("topk", {"rescale_acts_by_decoder_norm": True}),
    ("topk", {"apply_b_dec_to_input": False}),
    ("standard", {}),
    ("standard", {"normalize_activations": "layer_norm"}),
    ("standard", {"normalize_activations": "constant_norm_rescale"}),
    ("jumprelu", {}),
    ("gated", {}),
    ("transcoder", {}),
]


def hidden_states(seed: int = 7) -> torch.Tensor:
    return torch.randn(50, tiny.D_MODEL, generator=torch.Generator().manual_seed(seed)) * 3


@pytest.mark.parametrize(("architecture", "overrides"), CASES)
def test_every_architecture_equals_sae_lens(
    tmp_path: Path, architecture: str, overrides: dict[str, object]
) -> None:
    """Guards against values that are plausible and not the SAE's."""
    from sae_lens import SAE

    folder = tiny.write_sae(tmp_path / "sae", architecture, **overrides)
    reference = SAE.load_from_disk(folder)
    hidden = hidden_states()
    expected = reference.encode(hidden).detach()
    ours = load_sae(SaeSource(str(folder)))
    features = torch.arange(tiny.D_SAE)

    torch.testing.assert_close(ours.encode(hidden, features), expected, rtol=1e-5, atol=1e-5)
    assert (expected > 0).sum() > 50  # a silent reference would prove nothing


@pytest.mark.parametrize(("architecture", "overrides"), CASES)
def test_chosen_and_sparse_features_equal_the_dense_ones(
    tmp_path: Path, architecture: str, overrides: dict[str, object]
) -> None:
    """Guards against column slices that forget a per-feature parameter."""
    sae = load_sae(SaeSource(str(tiny.write_sae(tmp_path / "sae", architecture, **overrides))))
    hidden = hidden_states()
    dense = sae.encode(hidden, torch.arange(tiny.D_SAE))
    chosen = torch.tensor([5, 90, 17])
    torch.testing.assert_close(sae.encode(hidden, chosen), dense[:, chosen], rtol=1e-5, atol=1e-5)

    tokens, features, values = sae.encode_sparse(hidden)
    rebuilt = torch.zeros_like(dense)
    rebuilt[tokens, features] = values
    torch.testing.assert_close(rebuilt, dense, rtol=1e-5, atol=1e-5)
    assert torch.all(values > 0)
    places = tokens * tiny.D_SAE + features
    assert torch.all(places[1:] > places[:-1])


def test_centring_is_read_from_the_metadata_and_can_be_overridden(tmp_path: Path) -> None:
    """Guards against SAEs of centred models that read uncentred activations."""
    raw = tiny.sae_config("standard")
    raw["metadata"] = {
        "hook_name": tiny.HOOK,
        "model_from_pretrained_kwargs": {"center_writing_weights": True},
    }
    assert read_config(raw).center_input
    assert not read_config(raw, center_input=False).center_input

    folder = tiny.write_sae(tmp_path / "sae", "standard", metadata=raw["metadata"])
    plain = load_sae(SaeSource(str(folder)), center_input=False)
    centred = load_sae(SaeSource(str(folder)))
    hidden = hidden_states()
    features = torch.arange(tiny.D_SAE)
    expected = plain.encode(hidden - hidden.mean(dim=-1, keepdim=True), features)
    torch.testing.assert_close(centred.encode(hidden, features), expected)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"architecture": "matching_pursuit"}, "matching_pursuit"),
        ({"normalize_activations": "expected_average_only_in"}, "expected_average_only_in"),
        ({"metadata": {"hook_name": "blocks.1.attn.hook_q"}}, "blocks.1.attn.hook_q"),
        ({"reshape_activations": "hook_z"}, "hook_z"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    tmp_path: Path, change: dict[str, object], named: str
) -> None:
    """Guards against an unknown setting that is read as a known one."""
    folder = tiny.write_sae(tmp_path / "sae")
    (folder / "cfg.json").write_text(json.dumps(tiny.sae_config("topk") | change))
    with pytest.raises(Unimplemented, match=named):
        load_sae(SaeSource(str(folder)))


def test_a_folder_that_does_not_fit_together_is_refused(tmp_path: Path) -> None:
    folder = tiny.write_sae(tmp_path / "sae", "standard")
    config = tiny.sae_config("standard", d_sae=7)
    (folder / "cfg.json").write_text(json.dumps(config))
    with pytest.raises(FailedPrecondition, match="W_enc"):
        load_sae(SaeSource(str(folder)))
    (folder / "cfg.json").write_text("{")
    with pytest.raises(FailedPrecondition, match=r"cfg\.json"):
        load_sae(SaeSource(str(folder)))
    with pytest.raises(FailedPrecondition, match="missing"):
        load_sae(SaeSource(str(tmp_path / "nowhere")))


def test_a_feature_out_of_range_is_named(sae_folder: Path) -> None:
    sae = load_sae(SaeSource(str(sae_folder)))
    with pytest.raises(InvalidArgument, match="96") as caught:
        sae.check_features(torch.tensor([0, 96]))
    assert caught.value.reason == "FEATURE_OUT_OF_RANGE"
    assert caught.value.violations[0].field == "features[1]"
