"""Guards against a job that ends well while a server will still have to fetch, or cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.activation.prefetch import prefetch
from services.activation.registry import load_registry
from services.activation.settings import ActivationSettings
from services.common.errors import FailedPrecondition
from tests.activation.stack import write_registry


def test_everything_of_the_registry_is_loaded_and_checked(
    tmp_path: Path, model_folder: Path, sae_folder: Path
) -> None:
    """Twice, as a job may run; other weights than the registry pins end it with an error."""
    settings = ActivationSettings()
    registry = load_registry(write_registry(tmp_path / "r.yaml", model_folder, sae_folder))
    for _again in range(2):
        prefetch(settings, registry)
    pinned = write_registry(tmp_path / "p.yaml", model_folder, sae_folder, fingerprint="0" * 64)
    with pytest.raises(FailedPrecondition) as caught:
        prefetch(settings, load_registry(pinned))
    assert caught.value.reason == "FINGERPRINT_MISMATCH"
