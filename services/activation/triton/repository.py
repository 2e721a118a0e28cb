"""Writes Triton's model repository: one Triton model per language model, dtype and device.

    <folder>/<name>/config.pbtxt     tensors, batching, instance
    <folder>/<name>/1/model.py       a copy of :mod:`services.activation.triton.model`
    <folder>/<name>/1/spec.json      the :class:`TritonModelSpec`

SAEs and features are inputs. Triton counts requests, not tokens, so the model takes what comes and
bounds tokens itself (:mod:`executor`); Triton's own queue only holds what the model has not seen.
"""

from __future__ import annotations

import json
import shutil
import site
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from services.activation.encoder.backend import EncoderLimits
from services.activation.encoder.sources import ModelSource, SaeSource
from services.activation.triton.wire import INPUT_TYPES, OPTIONAL_INPUTS, OUTPUT_TYPES

_MODEL_FILE = Path(__file__).with_name("model.py")
_SOURCE_ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class TritonSae:
    """One SAE that a Triton model serves."""

    sae_id: str
    source: SaeSource
    center_input: bool | None = None
    """Overrides what the SAE's metadata says about centring."""
    fingerprint: str | None = None
    """sha256 that the weights must have, where it is pinned."""


@dataclass(frozen=True)
class TritonModelSpec:
    """Everything that one Triton model needs to load and to serve."""

    key: str
    """What the registry calls the language model: stands for one model at one revision."""
    model: ModelSource
    saes: tuple[TritonSae, ...]
    device: str = "cpu"
    """Torch device: ``cpu``, ``cuda`` or ``cuda:<n>``."""
    dtype: str = "float32"
    bos_token: str | None = None
    limits: EncoderLimits = field(default_factory=EncoderLimits)
    """What the model admits: tokens of a pass, tokens and calls that wait, features."""
    memory_budget_bytes: int = 2**40
    """For weights and workspaces; SAEs used longest ago make room."""
    max_batch_requests: int = 64
    """Requests that Triton hands over at once."""
    max_queued_requests: int = 4_096
    """Requests that Triton holds before the model sees them; more are refused as QUEUE_FULL."""

    @property
    def name(self) -> str:
        """Name of the Triton model."""
        return triton_model_name(self.key, self.device, self.dtype)

    def to_json(self) -> str:
        """For ``spec.json``."""
        return json.dumps(asdict(self), indent=2, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> TritonModelSpec:
        """Reads :meth:`to_json`."""
        fields = json.loads(text)
        saes = [
            TritonSae(**{**sae, "source": SaeSource(**sae["source"])}) for sae in fields["saes"]
        ]
        typed = {
            "model": ModelSource(**fields["model"]),
            "saes": tuple(saes),
            "limits": EncoderLimits(**fields["limits"]),
        }
        return cls(**{**fields, **typed})


def triton_model_name(key: str, device: str, dtype: str = "float32") -> str:
    """Name of the Triton model for a registry's language model, dtype and device.

    It takes no paths, so that a front and a server with different disks agree.
    """
    return f"{key}-{dtype}-{device.replace(':', '-')}"


def write_repository(folder: Path, specs: Iterable[TritonModelSpec]) -> Path:
    """Make ``folder`` the repository of exactly these models; models no longer named are removed.

    Each model's folder is replaced by a rename. Do it before the server starts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {spec.name: spec for spec in specs}
    for known in folder.iterdir():
        if known.is_dir() and known.name not in wanted:
            shutil.rmtree(known)
    for spec in wanted.values():
        _write_model(folder, spec)
    return folder


def config_text(spec: TritonModelSpec) -> str:
    """The model's ``config.pbtxt``."""
    inputs = ",\n".join(_input_text(name, kind) for name, kind in INPUT_TYPES.items())
    outputs = ",\n".join(
        f'  {{ name: "{name}" data_type: TYPE_{kind} dims: [ -1 ] }}'
        for name, kind in OUTPUT_TYPES.items()
    )
    return f"""\
name: "{spec.name}"
backend: "python"
max_batch_size: {spec.max_batch_requests}
input [
{inputs}
]
output [
{outputs}
]
instance_group [ {_instance_text(spec.device)} ]
dynamic_batching {{
  max_queue_delay_microseconds: 2000
  default_queue_policy {{ max_queue_size: {spec.max_queued_requests} }}
}}
{_parameters_text(_python_parameters())}
"""


def _input_text(name: str, kind: str) -> str:
    optional = " optional: true" if name in OPTIONAL_INPUTS else ""
    return (
        f'  {{ name: "{name}" data_type: TYPE_{kind} dims: [ -1 ] allow_ragged_batch: true'
        f"{optional} }}"
    )


def _instance_text(device: str) -> str:
    kind, _, number = device.partition(":")
    if kind == "cuda":
        return f"{{ count: 1 kind: KIND_GPU gpus: [ {int(number or 0)} ] }}"
    return "{ count: 1 kind: KIND_CPU }"


def _python_parameters() -> dict[str, str]:
    """Where the model finds torch and this package: Triton's Python ignores PYTHONPATH."""
    folders = [folder for folder in site.getsitepackages() if Path(folder).is_dir()]
    return {"site_folders": json.dumps(folders), "source_root": str(_SOURCE_ROOT)}


def _parameters_text(parameters: Mapping[str, str]) -> str:
    return "\n".join(
        f"parameters {{ key: {json.dumps(key)} value {{ string_value: {json.dumps(value)} }} }}"
        for key, value in sorted(parameters.items())
    )


def _write_model(folder: Path, spec: TritonModelSpec) -> None:
    staging = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder.parent))
    try:
        version = staging / "1"
        version.mkdir()
        shutil.copy(_MODEL_FILE, version / "model.py")
        (version / "spec.json").write_text(spec.to_json())
        (staging / "config.pbtxt").write_text(config_text(spec))
        staging.chmod(0o755)
        target = folder / spec.name
        shutil.rmtree(target, ignore_errors=True)
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
