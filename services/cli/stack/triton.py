"""The real tritonserver without a container: its binary out of the wheel `nvidia-pytriton`.

The wheel is installed without what it depends on and never imported; only its files are
used. The server wants them laid out in one folder, with the stub of this Python version
beside its Python backend, so they are copied into the cache once per version of the wheel.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from services.cli.stack.config import StackConfig
from services.cli.stack.ports import PortPicker
from services.cli.stack.spec import ExitsWithZero, GrpcHealth, ServiceSpec
from services.common.errors import FailedPrecondition

_WHEEL = "nvidia-pytriton"


@dataclass(frozen=True)
class TritonLayout:
    """Where the server lies.

    Attributes:
        root: holds `bin`, `backends` and `caches`.
        libraries: folders for `LD_LIBRARY_PATH`.
    """

    root: Path
    libraries: tuple[Path, ...]

    @property
    def binary(self) -> Path:
        """`tritonserver`."""
        return self.root / "bin" / "tritonserver"

    @property
    def backends(self) -> Path:
        """For `--backend-directory`."""
        return self.root / "backends"


@dataclass(frozen=True)
class TritonServices:
    """What Triton adds to the service table.

    Attributes:
        specs: the step that writes the model repository, and the server.
        environment: tells the activation service to ask the server.
    """

    specs: Sequence[ServiceSpec]
    environment: Mapping[str, str]


def lay_out(cache_dir: Path) -> TritonLayout:
    """Copies the server into the cache folder unless it is there already.

    Raises:
        FailedPrecondition: the wheel is not installed, or has no stub for this Python.
    """
    try:
        distribution = importlib.metadata.distribution(_WHEEL)
    except importlib.metadata.PackageNotFoundError:
        raise FailedPrecondition(
            f"Triton needs the wheel {_WHEEL}: pip install --no-deps {_WHEEL}"
        ) from None
    site = Path(str(distribution.locate_file("")))
    root = cache_dir / "triton" / f"{distribution.version}-py{_python_version()}"
    if not root.exists():
        _copy(site / "pytriton" / "tritonserver", root)
    libpython = Path(str(sysconfig.get_config_var("LIBDIR")))
    return TritonLayout(root, (site / "nvidia_pytriton.libs", libpython))


def services(config: StackConfig, ports: PortPicker, shared: Mapping[str, str]) -> TritonServices:
    """The rows of the service table."""
    configured = os.environ.get("SAEXPLAIN_CACHE_DIR")
    cache = Path(configured) if configured else Path(platformdirs.user_cache_dir("saexplain"))
    layout = lay_out(cache)
    address = ports.address()
    repository = config.state_dir.resolve() / "triton-models"
    write = ServiceSpec(
        name="triton-repository",
        command=(sys.executable, "-m", "services.activation.triton", str(repository)),
        ready=ExitsWithZero(),
        environment=lambda: shared,
    )
    server = ServiceSpec(
        name="triton",
        command=_command(layout, repository, address),
        ready=GrpcHealth(address),
        environment=lambda: {**shared, **_server_environment(layout)},
        after=(write.name,),
        address=address,
    )
    return TritonServices(
        (write, server),
        {"SAEXPLAIN_ACTIVATION_BACKEND": "triton", "SAEXPLAIN_TRITON_ADDRESS": address},
    )


def _command(layout: TritonLayout, repository: Path, address: str) -> tuple[str, ...]:
    host, _, port = address.rpartition(":")
    return (
        str(layout.binary),
        f"--model-repository={repository}",
        f"--backend-directory={layout.backends}",
        f"--cache-directory={layout.root / 'caches'}",
        f"--grpc-address={host}",
        f"--grpc-port={port}",
        "--allow-http=false",
        "--allow-metrics=false",
        "--exit-timeout-secs=5",
    )


def _server_environment(layout: TritonLayout) -> dict[str, str]:
    libraries = ":".join(str(folder) for folder in layout.libraries)
    inherited = os.environ.get("LD_LIBRARY_PATH")
    return {
        "LD_LIBRARY_PATH": f"{libraries}:{inherited}" if inherited else libraries,
        # The stub ignores PYTHONPATH: model.py adds this folder itself.
        "SAEXPLAIN_TRITON_SITE_DIR": sysconfig.get_path("purelib"),
    }


def _copy(source: Path, root: Path) -> None:
    """Lays the files out beside `root` and moves them there in one step."""
    stub = source / "python_backend_stubs" / _python_version() / "triton_python_backend_stub"
    if not stub.exists():
        raise FailedPrecondition(f"{_WHEEL} has no Python backend for {_python_version()}")
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent) as folder:
        draft = Path(folder) / "server"
        for part in ("bin", "backends", "caches"):
            shutil.copytree(source / part, draft / part)
        shutil.copy(stub, draft / "backends" / "python" / stub.name)
        for program in (draft / "bin" / "tritonserver", draft / "backends/python" / stub.name):
            program.chmod(0o755)
        if not root.exists():
            draft.rename(root)


def _python_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"
