"""What a stack is started with, and where it keeps things."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import platformdirs
from pydantic import BaseModel, ConfigDict, Field


def default_state_dir() -> Path:
    """`SAEXPLAIN_STATE_DIR`, or a folder of the user."""
    configured = os.environ.get("SAEXPLAIN_STATE_DIR")
    return Path(configured) if configured else Path(platformdirs.user_state_dir("saexplain"))


class StackConfig(BaseModel):
    """How to start a stack.

    Attributes:
        state_dir: everything the stack keeps: databases, artifacts, indexes, logs,
            `stack.json`. One stack per folder.
        triton: serve the model with tritonserver instead of in process.
        ready_timeout_seconds: how long the start may take before it counts as failed.
            The first one converts the model, which takes minutes on a slow machine.
        grace_seconds: how long a process may take to stop before it is killed.
        environment: added to the environment of every service, over everything else.
    """

    model_config = ConfigDict(frozen=True)

    state_dir: Path
    triton: bool = False
    ready_timeout_seconds: float = Field(900.0, gt=0)
    grace_seconds: float = Field(15.0, ge=0)
    environment: Mapping[str, str] = {}

    @property
    def log_dir(self) -> Path:
        """One `*.log` per process."""
        return self.state_dir / "logs"

    @property
    def record_path(self) -> Path:
        """`stack.json`."""
        return self.state_dir / "stack.json"

    @property
    def lock_path(self) -> Path:
        """Locked for as long as a stack runs on the folder."""
        return self.state_dir / "stack.lock"

    @property
    def postgres_dir(self) -> Path:
        """Data of the embedded PostgreSQL."""
        return self.state_dir / "postgres"

    @property
    def postgres_url_path(self) -> Path:
        """Holds the URL of the embedded PostgreSQL while it runs."""
        return self.state_dir / "postgres.url"
