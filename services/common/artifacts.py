"""Artifacts: bytes written once under a path, read back only if they are the same.

Any fsspec URL works: a folder, `s3://`, `gs://`, `memory://`. The bytes lie under a name
that holds their checksum; a small pointer under the path itself is written after them.
A crash between the two looks like an artifact that was never written, and of two
writers that race, both get a reference that reads back what it says.
"""

from __future__ import annotations

import asyncio
import hashlib
import posixpath
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

import fsspec

from services.common.artifact_ref import ArtifactRef
from services.common.errors import FailedPrecondition, InvalidArgument, Unavailable

__all__ = ["ArtifactRef", "ArtifactStore"]

_T = TypeVar("_T")


class ArtifactStore:
    """Artifacts below one URL."""

    def __init__(self, url: str) -> None:
        self._fs: Any
        self._fs, root = fsspec.core.url_to_fs(url)
        self._root = str(root).rstrip("/")

    async def put(self, path: str, data: bytes) -> ArtifactRef:
        """Stores `data` under `path` and returns its reference.

        Written once: where the path is taken, the first content stays and its
        reference is returned, so that a repeated step goes on with what was stored.

        Raises:
            InvalidArgument: the path leaves the store.
            Unavailable: the store refuses the write.
        """
        return await self._in_thread(self._put, _checked(path), data)

    async def get(self, ref: ArtifactRef) -> bytes:
        """The bytes of a reference.

        Raises:
            FailedPrecondition: missing or changed (ARTIFACT_CORRUPT).
            Unavailable: the store cannot be read.
        """
        return await self._in_thread(self._get, ref)

    async def find(self, path: str) -> ArtifactRef | None:
        """The reference of what is stored under `path`, if anything is."""
        return await self._in_thread(self._find, _checked(path))

    async def delete_prefix(self, prefix: str) -> None:
        """Deletes everything below `prefix`. Safe to repeat."""
        await self._in_thread(self._delete_prefix, _checked(prefix))

    async def _in_thread(self, function: Callable[..., _T], *arguments: Any) -> _T:
        try:
            return await asyncio.to_thread(function, *arguments)
        except OSError as error:
            raise Unavailable(f"artifact store: {error}") from error

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}"

    def _put(self, path: str, data: bytes) -> ArtifactRef:
        if (first := self._find(path)) is not None:
            return first
        ref = ArtifactRef(path=path, sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        self._write(self._content(ref), data)
        self._write(self._full(path), ref.model_dump_json().encode())
        return ref

    def _content(self, ref: ArtifactRef) -> str:
        return f"{self._full(_checked(ref.path))}.{ref.sha256[:16]}"

    def _write(self, full: str, data: bytes) -> None:
        # Under another name first: a reader never sees half of a file.
        partial = f"{full}.{uuid.uuid4().hex}.partial"
        self._fs.makedirs(posixpath.dirname(full), exist_ok=True)
        self._fs.pipe_file(partial, data)
        self._fs.mv(partial, full)

    def _find(self, path: str) -> ArtifactRef | None:
        try:
            return ArtifactRef.model_validate_json(self._fs.cat_file(self._full(path)))
        except (FileNotFoundError, IsADirectoryError):
            return None

    def _get(self, ref: ArtifactRef) -> bytes:
        try:
            data: bytes = self._fs.cat_file(self._content(ref))
        except FileNotFoundError as error:
            raise FailedPrecondition(
                f"artifact {ref.path} is missing", "ARTIFACT_CORRUPT"
            ) from error
        if hashlib.sha256(data).hexdigest() != ref.sha256:
            raise FailedPrecondition(
                f"artifact {ref.path} has another checksum than its reference", "ARTIFACT_CORRUPT"
            )
        return data

    def _delete_prefix(self, prefix: str) -> None:
        full = self._full(prefix)
        if self._fs.exists(full):
            self._fs.rm(full, recursive=True)


def _checked(path: str) -> str:
    parts = path.split("/")
    if not path or path.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise InvalidArgument(f"{path!r} is not a path inside the store", "path")
    return path
