"""The folder of finished indexes: found by id, checked against the SAE, opened once."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

from services.activation.encoder.identity import Fingerprints, digest
from services.activation.index.archive import unpack
from services.activation.index.artifact import MANIFEST, open_artifact
from services.activation.index.reader import IndexReader
from services.common.errors import FailedPrecondition
from services.common.names import index_id

_NAMES = ".names"


class IndexLibrary:
    """Indexes below one folder, in folders named by their id. Safe to use from many threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._open: dict[str, IndexReader] = {}
        self._manifests: dict[str, dict[str, Any]] = {}

    def path(self, key_or_id: str) -> Path:
        """Where an index lies, or will; found by its key, the key's beginning, or another name."""
        return self._folder / self._resolved(key_or_id)

    def name(self, other_id: str, key: str) -> None:
        """Let an index be found under another id too."""
        if index_id(other_id) == index_id(key):
            return
        names = self._folder / _NAMES
        names.mkdir(parents=True, exist_ok=True)
        temporary = names / f".{index_id(other_id)}.{os.getpid()}"
        temporary.write_text(index_id(key))
        temporary.replace(names / index_id(other_id))

    def _resolved(self, key_or_id: str) -> str:
        name = index_id(key_or_id)
        other = self._folder / _NAMES / name
        if not (self._folder / name).is_dir() and other.is_file():
            return other.read_text().strip()
        return name

    def holds(self, key_or_id: str) -> bool:
        """Whether the index is built."""
        return (self.path(key_or_id) / MANIFEST).is_file()

    def reader(self, key_or_id: str, fingerprints: Fingerprints) -> IndexReader:
        """Open an index for an SAE.

        Raises:
            FailedPrecondition: INDEX_NOT_BUILT, ARTIFACT_CORRUPT, or FINGERPRINT_MISMATCH where
                the index was made with other weights or another tokenizer.
        """
        name = self._resolved(key_or_id)
        with self._lock:
            if name not in self._open:
                self._open[name] = IndexReader(open_artifact(self.path(name)))
            reader = self._open[name]
        if reader.plan.fingerprints != fingerprints:
            message = f"index {name} was not made with the SAE, model and tokenizer loaded"
            raise FailedPrecondition(message, reason="FINGERPRINT_MISMATCH")
        return reader

    def default_id(self, fingerprints: Fingerprints, preferred: str | None) -> str | None:
        """The index that evidence comes from: the preferred one if it fits, else the largest."""
        fitting = [
            (manifest["token_count"], name)
            for name, manifest in self._known().items()
            if manifest["fingerprints"] == fingerprints.as_dict()
        ]
        if preferred is not None and any(name == index_id(preferred) for _, name in fitting):
            return index_id(preferred)
        return max(fitting)[1] if fitting else None

    def install(self, archive: Path) -> str | None:
        """Unpack a shipped archive unless that was done before; its id, or None without a file.

        Raises:
            FailedPrecondition: ARTIFACT_CORRUPT.
        """
        if not archive.is_file():
            return None
        state = archive.stat()
        marker = (
            self._folder / f".installed-{digest([str(archive), state.st_size, state.st_mtime_ns])}"
        )
        if marker.is_file() and self.holds(known := marker.read_text()):
            return known
        staged = unpack(archive, self._folder / f".unpacked-{marker.name[-16:]}")
        name = index_id(str(staged.manifest["key"]))
        target = self.path(name)
        if not target.exists():
            staged.folder.rename(target)
        marker.write_text(name)
        return name

    def _known(self) -> dict[str, dict[str, Any]]:
        for path in self._folder.glob(f"*/{MANIFEST}"):
            name = path.parent.name
            if not name.startswith(".") and name not in self._manifests:
                self._manifests[name] = json.loads(path.read_text())
        return self._manifests
