"""A fingerprint changes with everything that changes a value, and with nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.exactness.families import LAYERS, configurations, random_model
from services.activation.encoder.fingerprints import model_fingerprint, sae_fingerprint
from services.activation.encoder.hooks import HookPoint, Site
from services.activation.encoder.model import CutModel, load_model
from services.activation.encoder.sae import Sae
from services.activation.encoder.sources import ModelSource


@pytest.mark.parametrize(
    "change",
    [
        {"hook": HookPoint(1, Site.MLP_OUT)},
        {"apply_b_dec_to_input": False},
        {"normalize_activations": "layer_norm"},
        {"k": 5},
        {"rescale_acts_by_decoder_norm": True},
        {"center_input": True},
        {"head_index": 0},
        {"prepend_bos": False},
        {"excluded_token_ids": (7,)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_setting_that_changes_values_changes_the_fingerprint(
    sae: Sae, change: dict[str, object]
) -> None:
    """Guards against an index that is read with values of other settings."""
    assert sae_fingerprint(sae.with_config(**change)) != sae_fingerprint(sae)


@pytest.mark.parametrize(
    "change",
    [{"stored_dtype": "bfloat16"}, {"hook_out": HookPoint(2, Site.MLP_OUT)}],
    ids=lambda change: next(iter(change)),
)
def test_settings_that_change_no_activation_do_not(sae: Sae, change: dict[str, object]) -> None:
    """Guards against an index that is thrown away for nothing."""
    assert sae_fingerprint(sae.with_config(**change)) == sae_fingerprint(sae)


@pytest.mark.parametrize("family", ["gpt2", "gemma2"])
def test_every_tensor_up_to_the_hook_changes_a_models_fingerprint(
    family: str, tmp_path: Path
) -> None:
    """Guards against a tensor that is read and not covered, such as GPT-2's positions."""
    plain = random_model(configurations()[family])
    cut = CutModel(plain, device=torch.device("cpu"))
    source = ModelSource(str(tmp_path / "not a folder"))
    first = model_fingerprint(cut, source, LAYERS)
    behind = {"ln_f", "norm", "lm_head"}
    for name, parameter in plain.named_parameters():
        if behind & set(name.split(".")):
            continue
        kept = parameter.data.clone()
        parameter.data += 1e-3
        assert model_fingerprint(cut, source, LAYERS) != first, name
        parameter.data.copy_(kept)
    assert model_fingerprint(cut, source, LAYERS) == first


@pytest.mark.parametrize(
    ("family", "setting", "value"),
    [
        ("llama", "rms_norm_eps", 1e-2),
        ("llama", "rope_parameters", {"rope_type": "default", "rope_theta": 500.0}),
        ("llama", "hidden_act", "gelu"),
        ("mistral", "sliding_window", 4),
        ("gemma2", "attn_logit_softcapping", 1.0),
        ("gemma2", "query_pre_attn_scalar", 64),
        ("gemma2", "layer_types", ["full_attention", "full_attention", "sliding_attention"]),
        ("gpt2", "activation_function", "relu"),
        ("gpt2", "scale_attn_by_inverse_layer_idx", True),
        ("gpt_neox", "use_parallel_residual", False),
        ("phi", "layer_norm_eps", 1e-1),
    ],
)
def test_settings_that_are_no_tensors_change_a_models_fingerprint(
    family: str, setting: str, value: object
) -> None:
    """Guards against the same tensors computed otherwise under a known fingerprint."""
    config, other = configurations()[family], configurations()[family]
    setattr(other, setting, value)
    source, device = ModelSource("nowhere"), torch.device("cpu")
    first, second = (CutModel(random_model(c), device=device) for c in (config, other))
    for ours, theirs in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    ids, hook = torch.arange(2, 42)[None], HookPoint(LAYERS - 1, Site.RESIDUAL_POST)
    assert not torch.allclose(first.hidden_states(ids, hook), second.hidden_states(ids, hook))
    prints = {model_fingerprint(model, source, LAYERS) for model in (first, second)}
    assert len(prints) == 2


def test_a_fingerprint_does_not_depend_on_how_deep_the_model_was_loaded(tmp_path: Path) -> None:
    """Guards against an index that is lost when a deeper SAE of its model is loaded."""
    random_model(configurations()["gemma2"]).save_pretrained(tmp_path)
    source, nowhere = ModelSource(str(tmp_path)), ModelSource("nowhere")
    prints = {model_fingerprint(load_model(source, n), nowhere, 2) for n in (2, LAYERS)}
    assert len(prints) == 1
