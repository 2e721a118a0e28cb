"""SAEs encode what SAELens encodes.

Load-bearing: ``test_every_architecture_equals_sae_lens``, against an implementation that is not
ours. It guards against a forgotten decoder bias, rescale, gate or threshold.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from services.activation.encoder.hooks import HookPoint, Site
from services.activation.encoder.sae import load_sae, read_config
from services.activation.encoder.sources import SaeSource
from services.common.errors import FailedPrecondition, InvalidArgument, Unimplemented
from tests.activation import tiny

CASES: list[tuple[str, dict[str, object]]] = [
    ("topk", {}),
    ("topk", {"rescale_acts_by_decoder_norm": True}),
    ("topk", {"apply_b_dec_to_input": False}),
    ("standard", {}),
    ("standard", {"apply_b_dec_to_input": False}),
    ("standard", {"normalize_activations": "layer_norm"}),
    ("standard", {"normalize_activations": "constant_norm_rescale"}),
    ("jumprelu", {}),
    ("jumprelu", {"normalize_activations": "layer_norm"}),
    ("gated", {}),
    ("gated", {"normalize_activations": "constant_norm_rescale"}),
    ("batchtopk", {}),
    ("batchtopk", {"rescale_acts_by_decoder_norm": False}),
    ("matryoshka_batchtopk", {}),
    ("transcoder", {}),
    ("skip_transcoder", {}),
    ("jumprelu_transcoder", {"normalize_activations": "layer_norm"}),
    ("jumprelu_skip_transcoder", {}),
]


def hidden_states(seed: int = 7) -> torch.Tensor:
    return torch.randn(50, tiny.D_MODEL, generator=torch.Generator().manual_seed(seed)) * 3


def sae_lens_values(folder: Path, hidden: torch.Tensor) -> torch.Tensor:
    """SAELens' encoder on the same files; training checkpoints are saved for inference first."""
    from sae_lens import SAE, TrainingSAE

    if "batchtopk" in json.loads((folder / "cfg.json").read_text())["architecture"]:
        TrainingSAE.load_from_disk(folder).save_inference_model(folder / "inference")
        folder = folder / "inference"
    return SAE.load_from_disk(folder).encode(hidden).detach()


@pytest.mark.parametrize(("architecture", "overrides"), CASES)
def test_every_architecture_equals_sae_lens(
    tmp_path: Path, architecture: str, overrides: dict[str, object]
) -> None:
    """Guards against values that are plausible and not the SAE's."""
    folder = tiny.write_sae(tmp_path / "sae", architecture, **overrides)
    hidden = hidden_states()
    expected = sae_lens_values(folder, hidden)
    ours = load_sae(SaeSource(str(folder)))
    features = torch.arange(tiny.D_SAE)

    torch.testing.assert_close(ours.encode(hidden, features), expected, rtol=1e-5, atol=1e-5)
    assert (expected > 0).sum() > 50  # a silent reference would prove nothing
    assert (expected == 0).sum() > 50


@pytest.mark.parametrize(("architecture", "overrides"), CASES)
def test_chosen_and_sparse_features_equal_the_dense_ones(
    tmp_path: Path, architecture: str, overrides: dict[str, object]
) -> None:
    """Guards against column slices that forget a per-feature parameter."""
    sae = load_sae(SaeSource(str(tiny.write_sae(tmp_path / "sae", architecture, **overrides))))
    hidden = hidden_states()
    dense = sae.encode(hidden, torch.arange(tiny.D_SAE))
    torch.testing.assert_close(sae.encode(hidden), dense)
    chosen = torch.tensor([5, 90, 17, 5])
    torch.testing.assert_close(sae.encode(hidden, chosen), dense[:, chosen], rtol=1e-5, atol=1e-5)

    tokens, features, values = sae.encode_sparse(hidden)
    rebuilt = torch.zeros_like(dense)
    rebuilt[tokens, features] = values
    torch.testing.assert_close(rebuilt, dense, rtol=1e-5, atol=1e-5)
    assert torch.all(values > 0)
    places = tokens * tiny.D_SAE + features
    assert torch.all(places[1:] > places[:-1])


@pytest.mark.parametrize("architecture", ["standard", "jumprelu", "gated", "topk"])
def test_a_scaled_input_is_folded_as_sae_lens_folds_it(tmp_path: Path, architecture: str) -> None:
    """Guards against values that are off by the factor inputs were scaled by."""
    from sae_lens import SAE

    folder = tiny.write_sae(
        tmp_path / "sae", architecture, normalize_activations="expected_average_only_in"
    )
    with pytest.raises(Unimplemented, match="expected_average_only_in"):
        load_sae(SaeSource(str(folder)))
    (folder / "activation_scaler.json").write_text(json.dumps({"scaling_factor": 0.25}))
    reference = SAE.load_from_disk(folder)
    reference.fold_activation_norm_scaling_factor(0.25)
    hidden = hidden_states()
    sae = load_sae(SaeSource(str(folder)))
    expected = reference.encode(hidden).detach()
    torch.testing.assert_close(sae.encode(hidden), expected, rtol=1e-5, atol=1e-5)
    assert (expected > 0).sum() > 50
    (folder / "activation_scaler.json").write_text(json.dumps({"scaling_factor": "NaN"}))
    with pytest.raises(FailedPrecondition, match="scaling factor"):
        load_sae(SaeSource(str(folder)))


def test_a_constant_scale_named_in_the_configuration_is_folded(tmp_path: Path) -> None:
    plain = load_sae(SaeSource(str(tiny.write_sae(tmp_path / "plain", "standard"))))
    scaled = tiny.write_sae(
        tmp_path / "scaled",
        "standard",
        normalize_activations="constant_scalar_rescale",
        activation_normalization_factor=0.5,
    )
    hidden = hidden_states()
    b_dec = plain.weights["b_dec"]
    expected = ((0.5 * hidden - b_dec) @ plain.weights["W_enc"] + plain.weights["b_enc"]).relu()
    values = load_sae(SaeSource(str(scaled))).encode(hidden)
    torch.testing.assert_close(values, expected, rtol=1e-5, atol=1e-5)


def test_one_head_of_several_can_be_read(tmp_path: Path) -> None:
    """Guards against an SAE of one head that reads the first one."""
    folder = tiny.write_sae(
        tmp_path / "sae",
        "standard",
        d_in=8,
        metadata={"hook_name": "blocks.1.attn.hook_z", "hook_head_index": 2},
    )
    sae = load_sae(SaeSource(str(folder)))
    hidden = hidden_states()
    expected = sae.with_config(head_index=None).encode(hidden[:, 16:24])
    torch.testing.assert_close(sae.encode(hidden), expected)


def test_centring_is_read_from_the_metadata_and_can_be_overridden(tmp_path: Path) -> None:
    """Guards against SAEs of centred models that read uncentred activations."""
    metadata = {
        "hook_name": tiny.HOOK,
        "model_from_pretrained_kwargs": {"center_writing_weights": True},
    }
    raw = tiny.sae_config("standard", metadata=metadata)
    assert read_config(raw).center_input
    assert not read_config(raw, center_input=False).center_input
    inside = {**metadata, "hook_name": "blocks.1.mlp.hook_post"}
    assert not read_config({**raw, "metadata": inside}).center_input

    folder = tiny.write_sae(tmp_path / "sae", "standard", metadata=metadata)
    plain = load_sae(SaeSource(str(folder)), center_input=False)
    centred = load_sae(SaeSource(str(folder)))
    hidden = hidden_states()
    expected = plain.encode(hidden - hidden.mean(dim=-1, keepdim=True))
    torch.testing.assert_close(centred.encode(hidden), expected)


def test_the_module_name_of_an_sae_outranks_an_ambiguous_lens_name() -> None:
    """Guards against Gemma Scope 2's transcoders reading the residual stream: SAELens names their
    input hook_mlp_in, which in TransformerLens is what the MLP's norm reads."""
    metadata = {
        "hook_name": "blocks.3.hook_mlp_in",
        "hf_hook_name": "model.layers.3.pre_feedforward_layernorm.output",
        "hook_name_out": "blocks.3.hook_mlp_out",
        "hf_hook_name_out": "model.layers.3.post_feedforward_layernorm.output",
    }
    config = read_config(tiny.sae_config("jumprelu_transcoder", metadata=metadata))
    assert config.hook == HookPoint(3, Site.MLP_IN)
    assert config.hook_out == HookPoint(3, Site.MLP_OUT)


def test_a_configuration_of_before_version_six_is_read() -> None:
    """Guards against old SAEs that lose their hook, k or special tokens."""
    config = read_config(
        {
            "d_in": 32,
            "d_sae": 96,
            "hook_point": "blocks.2.hook_resid_pre",
            "hook_point_head_index": None,
            "activation_fn_str": "topk",
            "activation_fn_kwargs": {"k": 7},
            "normalize_activations": False,
            "prepend_bos": False,
            "exclude_special_tokens": [5, 3, 5],
        }
    )
    assert (config.architecture, config.k) == ("topk", 7)
    assert config.hook == HookPoint(2, Site.RESIDUAL_PRE)
    assert not config.prepend_bos
    assert config.excluded_token_ids == (3, 5)


def named(**metadata: object) -> dict[str, object]:
    return {"metadata": {"hook_name": tiny.HOOK, **metadata}}


def processed(hook: str = tiny.HOOK, **kwargs: object) -> dict[str, object]:
    return {"metadata": {"hook_name": hook, "model_from_pretrained_kwargs": kwargs}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"architecture": "matching_pursuit"}, "matching_pursuit"),
        ({"architecture": "abstopk"}, "signed"),
        ({"architecture": "temporal"}, "earlier tokens"),
        ({"architecture": "crosscoder"}, "crosscoder.*standard, gated, jumprelu"),
        ({"normalize_activations": "covariance_whitening"}, "covariance_whitening"),
        ({"activation_fn": "tanh-relu"}, "tanh-relu"),
        (named(hook_name="blocks.1.attn.hook_q"), "blocks.1.attn.hook_q"),
        ({"reshape_activations": "hook_z"}, "hook_z"),
        (processed(fold_ln=True, hook="blocks.1.mlp.hook_in"), "fold_ln.*mlp.hook_in"),
        (processed(fold_value_biases=True, hook="blocks.1.attn.hook_z"), "fold_value_biases"),
        (processed(checkpoint_value=1000), "checkpoint_value.*revision"),
        (processed(make_it_good=True), "make_it_good"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    """Guards against an unknown setting that is read as a known one."""
    folder = tiny.write_sae(tmp_path / "sae")
    (folder / "cfg.json").write_text(json.dumps(tiny.sae_config("topk") | change))
    with pytest.raises(Unimplemented, match=said):
        load_sae(SaeSource(str(folder)))


def test_processing_that_changes_nothing_at_the_hook_is_accepted() -> None:
    raw = tiny.sae_config("standard") | processed(
        fold_ln=True, fold_value_biases=True, center_unembed=True, n_devices=2, dtype="bfloat16"
    )
    assert not read_config(raw).center_input


def test_a_folder_that_does_not_fit_together_is_refused(tmp_path: Path) -> None:
    folder = tiny.write_sae(tmp_path / "sae", "standard")
    config = tiny.sae_config("standard", d_sae=7)
    (folder / "cfg.json").write_text(json.dumps(config))
    with pytest.raises(FailedPrecondition, match="W_enc"):
        load_sae(SaeSource(str(folder)))
    (folder / "cfg.json").write_text("{")
    with pytest.raises(FailedPrecondition, match=r"cfg\.json"):
        load_sae(SaeSource(str(folder)))
    (folder / "cfg.json").write_text(json.dumps(tiny.sae_config("gated")))
    with pytest.raises(FailedPrecondition, match="b_gate"):
        load_sae(SaeSource(str(folder)))
    for name, value in {
        "W_other": torch.zeros(3),
        "b_enc": torch.full((tiny.D_SAE,), torch.nan),
    }.items():
        save_file(tiny.sae_weights("standard") | {name: value}, folder / "sae_weights.safetensors")
        (folder / "cfg.json").write_text(json.dumps(tiny.sae_config("standard")))
        with pytest.raises(FailedPrecondition, match=name):
            load_sae(SaeSource(str(folder)))
    (folder / "sae_weights.safetensors").write_bytes(b"no tensors")
    with pytest.raises(FailedPrecondition, match="safetensors"):
        load_sae(SaeSource(str(folder)))
    with pytest.raises(FailedPrecondition, match="missing"):
        load_sae(SaeSource(str(tmp_path / "nowhere")))


def test_a_feature_out_of_range_is_named(sae_folder: Path) -> None:
    sae = load_sae(SaeSource(str(sae_folder)))
    with pytest.raises(InvalidArgument, match="96") as caught:
        sae.check_features(torch.tensor([0, 96]))
    assert caught.value.reason == "FEATURE_OUT_OF_RANGE"
    assert caught.value.violations[0].field == "features[1]"
