"""A fingerprint changes with everything that changes a value, and with nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.exactness.families import LAYERS, configurations, random_model
from services.activation.encoder.fingerprints import model_fingerprint, sae_fingerprint
from services.activation.encoder.hooks import HookPoint, Site
from services.activation.encoder.model import CutModel
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
