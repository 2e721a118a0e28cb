"""Where models and SAEs come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ModelSource:
    """Where a language model comes from: a folder, or a hub id with its revision."""

    location: str
    revision: str | None = None

    @property
    def folder(self) -> Path | None:
        """The folder, or None where ``location`` is a hub id."""
        path = Path(self.location)
        return path if path.is_dir() else None


@dataclass(frozen=True)
class SaeSource:
    """Where an SAE comes from: a folder, or a SAELens release and the SAE's id in it."""

    location: str
    sae_id: str | None = None
