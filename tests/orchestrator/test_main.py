"""The roles as processes. Guards against exit codes that mean nothing: temporalio may
abort at the interpreter's end, and an orchestrator must still tell good from bad."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

SERVING = health_pb2.HealthCheckResponse.SERVING


async def _start(role: str, **settings: str) -> asyncio.subprocess.Process:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SAEXPLAIN_")}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.orchestrator",
        role,
        env={**environment, **{f"SAEXPLAIN_{k}": v for k, v in settings.items()}},
        stderr=asyncio.subprocess.PIPE,
    )


async def test_wrong_settings_are_named_and_end_with_2() -> None:
    """Guards against a traceback where a name is wanted."""
    process = await _start("worker", DRAIN_SECONDS="-1")
    _, stderr = await process.communicate()
    assert process.returncode == 2
    assert b"DATABASE_URL" in stderr.upper()
    assert b"DRAIN_SECONDS" in stderr.upper()


async def test_roles_become_healthy_and_end_with_0_on_sigterm(
    empty_database_url: str, temporal_address: str, tmp_path: Path
) -> None:
    """migrate, then API and worker side by side, then SIGTERM."""
    settings = {
        "DATABASE_URL": empty_database_url,
        "ARTIFACT_URL": str(tmp_path / "artifacts"),
        "TEMPORAL_ADDRESS": temporal_address,
        "DRAIN_SECONDS": "1",
    }
    migrating = await _start("migrate", **settings)
    await migrating.communicate()
    assert migrating.returncode == 0
    roles = {"api": "ORCHESTRATOR_LISTEN", "worker": "ORCHESTRATOR_WORKER_LISTEN"}
    running = {
        role: await _start(role, **settings, **{setting: "127.0.0.1:0"})
        for role, setting in roles.items()
    }
    try:
        for process in running.values():
            await _serving(await _address(process))
    finally:
        for process in running.values():
            process.send_signal(signal.SIGTERM)
    for role, process in running.items():
        _, rest = await process.communicate()
        assert process.returncode == 0, (role, rest.decode())


async def _address(process: asyncio.subprocess.Process) -> str:
    """What the log says it listens on."""
    assert process.stderr is not None
    async for line in process.stderr:
        if b'"listening"' in line:
            return line.decode().split('"address": "')[1].split('"')[0]
    raise AssertionError("it never listened")


async def _serving(address: str) -> None:
    """Until the health service says SERVING; the test's own limit ends a wait for ever."""
    async with grpc.aio.insecure_channel(address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        async for response in watch:
            if response.status == SERVING:
                return
