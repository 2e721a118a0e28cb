"""Where annotations lie: beside the indexes, or shipped with one. Read-only but for `keep`."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

from services.activation.annotations.tables import (
    Annotations,
    read_annotations,
    read_header,
    write_annotations,
)
from services.activation.encoder.identity import Fingerprints
from services.common.errors import FailedPrecondition
from services.common.names import index_id


class AnnotationLibrary:
    """Annotations by index. Safe to use from many threads.

    Args:
        index_dir: The folder of indexes; annotations lie in ``.annotations`` below it.
        shipped: Files that come with indexes; each belongs to the index that its header names.
    """

    def __init__(self, index_dir: Path, shipped: Iterable[Path] = ()) -> None:
        self._folder = index_dir / ".annotations"
        self._shipped = tuple(shipped)
        self._lock = threading.Lock()
        self._open: dict[str, Annotations] = {}

    def path(self, key_or_id: str) -> Path:
        """Where the annotations of an index are kept."""
        return self._folder / f"{index_id(key_or_id)}.npz"

    def find(self, key: str) -> Path | None:
        """The file of an index: kept here, or shipped."""
        if self.path(key).is_file():
            return self.path(key)
        for path in self._shipped:
            if path.is_file() and read_header(path).index_key == key:
                return path
        return None

    def read(self, key: str, fingerprints: Fingerprints, readout: str) -> Annotations:
        """The annotations of an index.

        Args:
            key: The index.
            fingerprints: Of what is loaded.
            readout: Fingerprint of the loaded model's final norm and unembedding.

        Raises:
            FailedPrecondition: ANNOTATION_NOT_BUILT, ARTIFACT_CORRUPT, or FINGERPRINT_MISMATCH
                where they were made with other weights or for another index.
        """
        with self._lock:
            if key not in self._open:
                path = self.find(key)
                if path is None:
                    raise FailedPrecondition(
                        f"index {index_id(key)} has no vocabulary probe and no bulk facts; an "
                        "indexer makes them with AnnotateIndex",
                        reason="ANNOTATION_NOT_BUILT",
                    )
                self._open[key] = read_annotations(path)
            found = self._open[key]
        header = found.header
        if (header.index_key, header.fingerprints, header.readout) != (key, fingerprints, readout):
            message = f"the annotations of index {index_id(key)} belong to other weights"
            raise FailedPrecondition(message, reason="FINGERPRINT_MISMATCH")
        return found

    def keep(self, annotations: Annotations) -> str:
        """Store annotations; sha256 of their file."""
        return write_annotations(annotations, self.path(annotations.header.index_key))
