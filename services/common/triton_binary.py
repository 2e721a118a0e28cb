"""The `tritonserver` that the `nvidia-pytriton` wheel carries, made startable without a container.

The wheel is looked up without being imported: it pins other versions than ours and is installed
with `--no-deps`. Its parts are copied once into a cache folder in the layout that the server
wants, with the Python stub of the running interpreter beside the Python backend.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from services.common.errors import FailedPrecondition

_DISTRIBUTION = "nvidia-pytriton"
_PARTS = ("bin", "backends", "caches")
_STUB = "triton_python_backend_stub"
_LOAD_SECONDS = 900  # a model may come over the network first


@dataclass(frozen=True)
class TritonPorts:
    """Where a server listens. HTTP and metrics stay off where their port is None."""

    grpc: int
    host: str = "127.0.0.1"
    http: int | None = None
    metrics: int | None = None


@dataclass(frozen=True)
class TritonBinary:
    """A laid out server; see `find_triton`."""

    folder: Path
    """Holds `bin`, `backends` and `caches`."""
    library_folders: tuple[Path, ...]
    """What the server's and the stub's shared libraries need on `LD_LIBRARY_PATH`."""

    def command(
        self, model_repository: Path, ports: TritonPorts, *, shared_memory_prefix: str = "saexplain"
    ) -> list[str]:
        """What starts the server in the foreground.

        Ends with an error where a model cannot be loaded; on SIGTERM it lets running requests
        end, 10 s at most. Servers that run at the same time need different shared memory
        prefixes where their ends may be violent: leftovers in `/dev/shm` carry it.
        """
        return [
            str(self.folder / "bin" / "tritonserver"),
            f"--model-repository={model_repository}",
            f"--backend-directory={self.folder / 'backends'}",
            f"--cache-directory={self.folder / 'caches'}",
            f"--backend-config=python,shm-region-prefix-name={shared_memory_prefix}",
            f"--backend-config=python,stub-timeout-seconds={_LOAD_SECONDS}",
            "--disable-auto-complete-config",
            # Its API to load models takes model files along: it would run anybody's code.
            "--model-control-mode=none",
            "--exit-timeout-secs=10",
            f"--grpc-address={ports.host}",
            f"--grpc-port={ports.grpc}",
            *_listener("http", ports.http, f"--http-address={ports.host}"),
            *_listener("metrics", ports.metrics, f"--metrics-address={ports.host}"),
        ]

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """`base` with the library path in front; what the server's process gets."""
        folders = [str(folder) for folder in self.library_folders]
        known = base.get("LD_LIBRARY_PATH")
        return {**base, "LD_LIBRARY_PATH": ":".join([*folders, *([known] if known else [])])}


def find_triton(cache_dir: Path) -> TritonBinary:
    """The server in its layout under `cache_dir`, laid out first where it is not there yet.

    Takes a second the first time; any number of processes may do so at once.

    Raises:
        FailedPrecondition: NOT_READY, where the wheel is missing or has no stub for this Python.
    """
    package = _package_folder()
    version = metadata.version(_DISTRIBUTION)
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    target = cache_dir / "triton" / f"{version}-py{python}"
    if not target.is_dir():
        stub = package / "tritonserver" / "python_backend_stubs" / python / _STUB
        if not stub.is_file():
            raise _missing(f"{_DISTRIBUTION} {version} has no stub for Python {python}")
        _lay_out(package / "tritonserver", stub, target)
    libraries = (package.parent / "nvidia_pytriton.libs", _python_library_folder())
    return TritonBinary(target, libraries)


def _lay_out(source: Path, stub: Path, target: Path) -> None:
    """Complete or absent: written beside `target`, then renamed; a faster process wins."""
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        for part in _PARTS:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source / part, staging / part, ignore=ignored)
        for executable in (staging / "bin" / "tritonserver", staging / "backends/python" / _STUB):
            if executable.name == _STUB:
                shutil.copy(stub, executable)
            executable.chmod(0o755)
        staging.chmod(0o755)
        staging.rename(target)
    except OSError:
        if not target.is_dir():
            raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _package_folder() -> Path:
    spec = importlib.util.find_spec("pytriton")
    if spec is None or spec.origin is None:
        raise _missing("the Triton server comes in a package that is not installed")
    return Path(spec.origin).parent


def _python_library_folder() -> Path:
    """The stub links against the interpreter's shared library."""
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    named = sysconfig.get_config_var("LIBDIR")
    places = [Path(sys.base_prefix) / "lib", *([Path(named)] if named else [])]
    multiarch = sysconfig.get_config_var("MULTIARCH")
    places += [place / multiarch for place in places if multiarch]
    for place in places:
        if (place / name).is_file():
            return place
    raise _missing(f"{name} is in none of {', '.join(map(str, places))}; Triton's stub needs it")


def _listener(kind: str, port: int | None, address: str) -> list[str]:
    if port is None:
        return [f"--allow-{kind}=false"]
    return [f"--allow-{kind}=true", address, f"--{kind}-port={port}"]


def _missing(what: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"{what} (pip install --no-deps {_DISTRIBUTION})",
        reason="NOT_READY",
        metadata={"package": _DISTRIBUTION},
    )
