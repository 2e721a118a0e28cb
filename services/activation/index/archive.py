"""An artifact folder as one file, ``*.tar.zst``: the same folder gives the same bytes."""

from __future__ import annotations

import io
import tarfile
import tempfile
from pathlib import Path

import zstandard

from services.activation.index.artifact import ArtifactFiles, open_artifact, put_in_place
from services.common.errors import FailedPrecondition

_LEVEL = 19


def pack(folder: Path, archive: Path) -> None:
    """Write every file of ``folder``, sorted by name, without times or owners."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(folder.iterdir()):
            entry = tarfile.TarInfo(path.name)
            entry.size, entry.mode = path.stat().st_size, 0o644
            with path.open("rb") as file:
                tar.addfile(entry, file)
    compressor = zstandard.ZstdCompressor(level=_LEVEL, threads=0)
    temporary = archive.with_name(f"{archive.name}.partial")
    temporary.write_bytes(compressor.compress(buffer.getvalue()))
    temporary.replace(archive)


def unpack(archive: Path, folder: Path) -> ArtifactFiles:
    """Restore a packed folder; it appears complete or not at all.

    Raises:
        FailedPrecondition: ARTIFACT_CORRUPT where the archive or a file in it is damaged.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        raw = zstandard.ZstdDecompressor().decompress(archive.read_bytes())
        with tarfile.open(fileobj=io.BytesIO(raw), mode="r:") as tar:
            tar.extractall(temporary, filter="data")
    except (OSError, zstandard.ZstdError, tarfile.TarError) as error:
        message = f"archive {archive} is damaged: {error}"
        raise FailedPrecondition(message, reason="ARTIFACT_CORRUPT") from error
    open_artifact(temporary)
    return put_in_place(temporary, folder)
