"""Another type of arithmetic is asked for by name, and never passes for float32."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from services.activation.encoder.backend import EncoderLimits
from services.activation.encoder.loaded import LoadedSae
from services.activation.loading import RegistryLoader
from services.activation.registry import load_registry
from services.activation.weights import describe
from services.common.errors import FailedPrecondition
from tests.activation import tiny


def load(folder: Path, model_folder: Path, sae_folder: Path, dtype: str | None) -> LoadedSae:
    model = {"folder": str(model_folder)} | ({"compute_dtype": dtype} if dtype else {})
    sae = {"model": "tiny", "folder": str(sae_folder)}
    registry = {"models": {"tiny": model}, "saes": {"one": sae}}
    path = folder / "registry.yaml"
    path.write_text(yaml.safe_dump(registry))
    return RegistryLoader(load_registry(path), folder, "cpu", EncoderLimits())("one")


def test_bfloat16_is_another_model_with_nearly_the_same_values(
    tmp_path: Path, model_folder: Path, sae_folder: Path
) -> None:
    """Guards the remembered fingerprint, which lies beside the same weight files for both."""
    folder = shutil.copytree(model_folder, tmp_path / "model")
    usual = load(tmp_path, folder, sae_folder, None)
    changed = load(tmp_path, folder, sae_folder, "bfloat16")
    assert describe(usual).compute_dtype == "float32"
    assert describe(changed).compute_dtype == "bfloat16"
    assert changed.fingerprints.model != usual.fingerprints.model
    assert changed.fingerprints.sae == usual.fingerprints.sae
    assert load(tmp_path, folder, sae_folder, "bfloat16").fingerprints == changed.fingerprints

    row = np.random.default_rng(0).integers(2, 400, 60)
    features = list(range(tiny.D_SAE))
    (ours,) = usual.encoder.pre_activations(usual.sae, [row], features)
    (theirs,) = changed.encoder.pre_activations(changed.sae, [row], features)
    difference = np.abs(ours - theirs).max() / np.abs(ours).max()
    assert theirs.dtype == np.float32
    assert 1e-4 < difference < 0.2


def test_an_unknown_type_is_refused_by_name(
    tmp_path: Path, model_folder: Path, sae_folder: Path
) -> None:
    with pytest.raises(FailedPrecondition, match="compute_dtype"):
        load(tmp_path, model_folder, sae_folder, "int4")
