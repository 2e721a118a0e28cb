"""An index on disk: a folder of arrays with a manifest, immutable once written.

``manifest.json`` names every file with its sha256; the manifest's own sha256 identifies the
artifact. Arrays are laid out so that they compress well and can be mapped into memory: values are
16-bit fixed point relative to the feature's maximum (step 1.5e-5 of it), low and high bytes apart.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.activation.index.config import FORMAT_VERSION
from services.activation.index.folders import put_folder
from services.common.errors import FailedPrecondition

VALUE_STEPS = 65_535
"""Fixed-point steps between 0 and the feature's maximum."""
IS_TOP, IS_SAMPLE = 1, 2
"""Flags of a kept record: an exemplar by rank, a member of the random sample."""
READABLE_FORMATS = (1, FORMAT_VERSION)
"""Format 1 holds no near misses; the reader then looks for them in the panel."""

MANIFEST = "manifest.json"
DOCUMENTS = "documents.json"


@dataclass(frozen=True)
class ArtifactFiles:
    """A folder whose checksums were found right."""

    folder: Path
    manifest: dict[str, Any]
    fingerprint: str
    """sha256 of the manifest."""

    def array(self, name: str) -> NDArray[Any]:
        """One array, mapped read-only."""
        mapped: NDArray[Any] = np.load(
            self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False
        )
        return mapped

    def facts(self) -> dict[str, Any]:
        """Manifest and document table, as :func:`restore_plan` takes them."""
        documents: dict[str, Any] = json.loads((self.folder / DOCUMENTS).read_text())
        return {**self.manifest, **documents}


def put_in_place(temporary: Path, folder: Path) -> ArtifactFiles:
    """Give a complete folder its name; where another process came first, its folder stays."""
    put_folder(temporary, folder)
    return open_artifact(folder)


def open_artifact(folder: Path) -> ArtifactFiles:
    """Open a folder and check every file against the manifest.

    Raises:
        FailedPrecondition: INDEX_NOT_BUILT where there is no manifest, ARTIFACT_CORRUPT where a
            file is missing, changed or of another format.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise FailedPrecondition(f"there is no index at {folder}", reason="INDEX_NOT_BUILT")
    raw = path.read_bytes()
    try:
        manifest: dict[str, Any] = json.loads(raw)
        files: Mapping[str, str] = manifest["files"]
        version = manifest["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise _corrupt(folder, f"unreadable manifest ({error!r})") from error
    if version not in READABLE_FORMATS:
        raise _corrupt(folder, f"format {version}, this service reads {READABLE_FORMATS}")
    found = checksums(folder)
    if found != files:
        wrong = sorted(n for n in {*files, *found} if files.get(n) != found.get(n))
        raise _corrupt(folder, f"missing or changed: {', '.join(wrong)}")
    return ArtifactFiles(folder, manifest, hashlib.sha256(raw).hexdigest())


def checksums(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST
    }


def _corrupt(folder: Path, problem: str) -> FailedPrecondition:
    return FailedPrecondition(f"index at {folder}: {problem}", reason="ARTIFACT_CORRUPT")
