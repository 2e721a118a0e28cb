"""Which orchestrator a command talks to."""

from __future__ import annotations

import os
from pathlib import Path

from saexplain_client import AsyncSaexplainClient
from services.cli.stack import StackConfig, read_record
from services.cli.stack.config import default_state_dir
from services.cli.stack.table import API
from services.common.errors import Unavailable


def find_address(address: str | None, state: Path | None, service: str = API) -> str:
    """`host:port` of a service.

    In this order: the one given, `SAEXPLAIN_ADDRESS` (for the public API only), the stack
    that runs on the state folder.

    Raises:
        Unavailable: no stack runs there, or it is not ready yet.
    """
    if address:
        return address
    if service == API and (configured := os.environ.get("SAEXPLAIN_ADDRESS")):
        return configured
    config = StackConfig(state_dir=state or default_state_dir())
    record = read_record(config.record_path)
    if record is None or not record.supervisor.process.alive:
        raise Unavailable(f"no stack runs on {config.state_dir}")
    if record.status != "ready":
        raise Unavailable(f"the stack on {config.state_dir} is {record.status}", "NOT_READY")
    return record.addresses[service]


def connect(address: str | None, state: Path | None, project: str) -> AsyncSaexplainClient:
    """A client of the orchestrator; to be made inside an event loop."""
    return AsyncSaexplainClient(find_address(address, state), project=project)
