"""What the model repository holds."""

from __future__ import annotations

from pathlib import Path

from services.activation.encoder.sources import ModelSource, SaeSource
from services.activation.triton.repository import (
    TritonModelSpec,
    TritonSae,
    config_text,
    triton_model_name,
    write_repository,
)

SPEC = TritonModelSpec(
    key="tiny",
    model=ModelSource("hub/tiny", "abc"),
    saes=(TritonSae("one", SaeSource("release", "id"), center_input=True, fingerprint="f"),),
    device="cuda:1",
    max_queued_requests=7,
)


def test_a_specification_survives_its_file(tmp_path: Path) -> None:
    """Whatever the front configured is what the model loads."""
    write_repository(tmp_path, [SPEC])
    folder = tmp_path / "tiny-float32-cuda-1"
    assert TritonModelSpec.from_json((folder / "1" / "spec.json").read_text()) == SPEC
    assert (folder / "1" / "model.py").is_file()


def test_models_that_left_the_registry_leave_the_repository(tmp_path: Path) -> None:
    """Triton would load them, and fail where their weights are gone."""
    write_repository(tmp_path, [SPEC])
    other = TritonModelSpec("other", SPEC.model, SPEC.saes)
    write_repository(tmp_path, [other])
    assert [path.name for path in tmp_path.iterdir()] == ["other-float32-cpu"]


def test_the_device_decides_instance_and_name() -> None:
    """One instance on the named GPU; a CPU model has another name."""
    text = config_text(SPEC)
    assert "instance_group [ { count: 1 kind: KIND_GPU gpus: [ 1 ] } ]" in text
    assert "max_queue_size: 7" in text
    names = {triton_model_name("tiny", device) for device in ("cpu", "cuda:0", "cuda:1")}
    assert len(names) == 3
