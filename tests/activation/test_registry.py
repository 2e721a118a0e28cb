"""The registry says what there is, and refuses what makes no sense by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.activation.encoder.backend import EncoderLimits
from services.activation.loading import RegistryLoader, model_specs
from services.activation.registry import load_registry
from services.activation.settings import ActivationSettings
from services.common.errors import FailedPrecondition, NotFound
from tests.activation import tiny
from tests.activation.stack import write_registry


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(
        "models: {m: {folder: models/m}}\nsaes: {s: {model: m, folder: ../s, index: i.tar.zst}}\n"
    )
    registry = load_registry(tmp_path / "r.yaml")
    assert registry.models["m"].folder == tmp_path / "models/m"
    assert registry.sae("s").folder == (tmp_path / "../s").resolve()
    assert registry.sae("s").index == tmp_path / "i.tar.zst"
    with pytest.raises(NotFound) as caught:
        registry.sae("t")
    assert caught.value.reason == "SAE_NOT_FOUND"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("models: {}\nsaes: {s: {model: m, folder: f}}", "no model 'm'"),
        ("models: {m: {hub: a/b}}\nsaes: {s: {model: m, folder: f}}", "revision"),
        ("models: {m: {folder: f, package: p}}\nsaes: {s: {model: m, folder: f}}", "exactly one"),
        ("models: {m: {folder: f}}\nsaes: {s: {model: m, release: r}}", "sae_id"),
        ("models: {m: {folder: f}}\nsaes: {s: {model: m, folder: f, typo: 1}}", "typo"),
        ("models: {m: {folder: f}}\nsaes: {'Big Name': {model: m, folder: f}}", "Big Name"),
        ("models: {m: {folder: f}}\nsaes: {}", "saes"),
        ("{", "registry"),
    ],
)
def test_a_wrong_registry_says_what_is_wrong(tmp_path: Path, text: str, named: str) -> None:
    """Guards against a typo that is silently a default."""
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(FailedPrecondition, match=named):
        load_registry(tmp_path / "r.yaml")
    with pytest.raises(FailedPrecondition, match="registry"):
        load_registry(tmp_path / "missing.yaml")


def test_the_shipped_registry_is_a_registry() -> None:
    registry = load_registry(ActivationSettings().registry)
    assert "smollm2-135m-instruct-l8" in registry.saes


def test_a_loader_shares_the_model_and_refuses_unpinned_weights(
    tmp_path: Path, model_folder: Path, sae_folder: Path
) -> None:
    """Guards against other weights under a known name."""
    registry = load_registry(write_registry(tmp_path / "r.yaml", model_folder, sae_folder))
    (spec,) = model_specs(registry, tmp_path, "cpu", EncoderLimits())
    assert [sae.sae_id for sae in spec.saes] == ["tiny"]
    load = RegistryLoader(registry, tmp_path, "cpu", EncoderLimits())
    loaded = load("tiny")
    assert loaded.sae.feature_count == tiny.D_SAE
    assert load("tiny") is loaded

    pinned = write_registry(tmp_path / "p.yaml", model_folder, sae_folder, fingerprint="0" * 64)
    with pytest.raises(FailedPrecondition) as caught:
        RegistryLoader(load_registry(pinned), tmp_path, "cpu", EncoderLimits())("tiny")
    assert caught.value.reason == "FINGERPRINT_MISMATCH"
