"""SAELens' releases are the way to published SAEs; what is not safe to read is refused.

Load-bearing: ``test_a_release_is_read_from_the_local_cache``, through SAELens' own loader on a
folder laid out as the Hugging Face cache lays it out. No network is reached.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch
import yaml
from sae_lens.loading import pretrained_sae_loaders

from services.activation import registry as registry_module
from services.activation.encoder.backend import EncoderLimits
from services.activation.encoder.fingerprints import sae_fingerprint
from services.activation.encoder.sae import load_sae
from services.activation.encoder.shapes import sae_shape
from services.activation.encoder.sources import SaeSource
from services.activation.loading import RegistryLoader
from services.activation.registry import load_registry
from services.common.errors import FailedPrecondition, Unimplemented
from tests.activation import tiny

REPOSITORY, COMMIT = "somebody/some-saes", "0" * 40
EXAMPLES = Path(registry_module.__file__).with_name("registry_examples.yaml")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hugging Face cache, and no way to the hub."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def publish(cache: Path, name: str, folder: Path) -> None:
    """Put an SAE into the cache as if it had been downloaded."""
    repository = cache / f"models--{REPOSITORY.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    shutil.copytree(folder, repository / "snapshots" / COMMIT / name)


@pytest.mark.parametrize("architecture", ["jumprelu", "gated", "topk", "jumprelu_skip_transcoder"])
def test_a_release_is_read_from_the_local_cache(
    cache: Path, tmp_path: Path, architecture: str
) -> None:
    """Guards against a hub path that was never walked, and values other than the folder's."""
    folder = tiny.write_sae(tmp_path / "made" / architecture, architecture)
    publish(cache, "layer_1/width_96", folder)
    ours = load_sae(SaeSource(REPOSITORY, "layer_1/width_96"))
    expected = load_sae(SaeSource(str(folder)))
    hidden = torch.randn(20, tiny.D_MODEL, generator=torch.Generator().manual_seed(3)) * 3
    torch.testing.assert_close(ours.encode(hidden), expected.encode(hidden))
    assert sae_fingerprint(ours) == sae_fingerprint(expected)
    assert str(ours.config.hook) == tiny.HOOK


def test_a_registry_entry_with_a_release_is_served(
    cache: Path, tmp_path: Path, model_folder: Path
) -> None:
    """Guards against a hub path that loads and does not fit into the books or onto the model."""
    publish(cache, "layer_1", tiny.write_sae(tmp_path / "made", "jumprelu"))
    path = tmp_path / "registry.yaml"
    entry = {"model": "tiny", "release": REPOSITORY, "sae_id": "layer_1"}
    models = {"tiny": {"folder": str(model_folder)}}
    path.write_text(yaml.safe_dump({"models": models, "saes": {"published": entry}}))
    load = RegistryLoader(load_registry(path), tmp_path, "cpu", EncoderLimits())
    loaded = load("published")
    row = np.arange(1, 20, dtype=np.int64)
    (values,) = loaded.encoder.encode(loaded.sae, [row], list(range(tiny.D_SAE)))
    assert np.count_nonzero(values) > 50
    assert loaded.sae.config.architecture == "jumprelu"


def test_what_is_not_there_is_said(cache: Path) -> None:
    for release, sae_id in [
        (REPOSITORY, "layer_1"),
        ("no-such-release", "layer_1"),
        ("gpt2-small-res-jb", "blocks.99.hook_resid_pre"),
    ]:
        with pytest.raises(FailedPrecondition, match=sae_id) as caught:
            load_sae(SaeSource(release, sae_id))
        assert caught.value.reason == "ARTIFACT_CORRUPT"


def test_a_release_of_pickles_is_refused_before_anything_is_read(cache: Path) -> None:
    """Guards against files that can run code."""
    with pytest.raises(Unimplemented, match=r"goodfire.*safetensors"):
        load_sae(SaeSource("goodfire-llama-3.1-8b-instruct", "layer_19"))


def test_a_release_of_pickles_is_not_even_measured(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes are asked for before anything is loaded: SAELens reads some configurations out of the
    pickle itself, so the refusal has to come before."""

    def fetched(*_: object, **__: object) -> dict[str, object]:
        raise AssertionError("the release was fetched")

    monkeypatch.setattr(pretrained_sae_loaders, "load_sae_config_from_huggingface", fetched)
    with pytest.raises(Unimplemented, match=r"goodfire.*safetensors") as refused:
        sae_shape(SaeSource("goodfire-llama-3.1-8b-instruct", "layer_19"))
    assert refused.value.reason == "UNSUPPORTED"


def test_every_example_is_one_that_sae_lens_knows() -> None:
    """Guards against a documented entry that names nothing, or files that are refused."""
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    from services.activation.encoder.saes.releases import check_readable

    known = get_pretrained_saes_directory()
    examples = load_registry(EXAMPLES)
    assert len(examples.saes) >= 10
    for entry in examples.saes.values():
        assert entry.release is not None
        assert entry.sae_id in known[entry.release].saes_map, entry
        check_readable(entry.release)
