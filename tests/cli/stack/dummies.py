"""A service table of small real processes, and a program that supervises them.

`python dummies.py STATE_DIR [crash]` runs a stack until SIGTERM; it stands in for
`saexplain up`, which a test wants to kill.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from services.cli.stack import Stack, StackConfig
from services.cli.stack.ports import PortPicker
from services.cli.stack.spec import ExitsWithZero, FileAppears, GrpcHealth, ServiceSpec

_GRPC = """
import sys, signal
from concurrent.futures import ThreadPoolExecutor
import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
server = grpc.server(ThreadPoolExecutor(2))
servicer = health.HealthServicer()
servicer.set("", health_pb2.HealthCheckResponse.SERVING)
health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
server.add_insecure_port(sys.argv[1])
server.start()
signal.sigwait({signal.SIGTERM})
server.stop(None).wait()
"""
_STUBBORN = """
import signal, subprocess, sys, time
from pathlib import Path
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
Path(sys.argv[1]).write_text(str(child.pid))
time.sleep(600)
"""
_PLAIN = """
import signal, sys
from pathlib import Path
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
print("plain is up", flush=True)
Path(sys.argv[1]).touch()
signal.sigwait({signal.SIGTERM})
with open(sys.argv[2], "a") as order:
    order.write("plain\\n")
"""
_CRASHING = """
import sys, time
from pathlib import Path
Path(sys.argv[1]).touch()
time.sleep(float(sys.argv[2]))
print("the disk is on fire", flush=True)
sys.exit(7)
"""


def python(script: str, *arguments: object) -> tuple[str, ...]:
    """A command that runs the script."""
    return (sys.executable, "-c", script, *map(str, arguments))


def file_service(
    state: Path, name: str, script: str, *arguments: object, after: tuple[str, ...] = ()
) -> ServiceSpec:
    """A process that is ready when it has written its file."""
    path = state / f"{name}.ready"
    return ServiceSpec(name, python(script, path, *arguments), FileAppears(path), after=after)


def three_services(config: StackConfig, ports: PortPicker) -> Sequence[ServiceSpec]:
    """A plain one, a step, and a gRPC server that stands on both."""
    address = ports.address()
    step = ServiceSpec("step", python("print('done')"), ExitsWithZero(), after=("plain",))
    server = ServiceSpec(
        "server",
        python(_GRPC, address),
        GrpcHealth(address),
        after=("step",),
        address=address,
    )
    return [
        file_service(config.state_dir, "plain", _PLAIN, config.state_dir / "order"),
        step,
        server,
    ]


def with_stubborn(config: StackConfig, ports: PortPicker) -> Sequence[ServiceSpec]:
    """Beside the three, one that ignores SIGTERM and has a child of its own."""
    return [
        *three_services(config, ports),
        file_service(config.state_dir, "stubborn", _STUBBORN, after=("plain",)),
    ]


def with_crash(config: StackConfig, ports: PortPicker) -> Sequence[ServiceSpec]:
    """Beside the three, one that crashes a moment after it was ready."""
    return [
        *three_services(config, ports),
        file_service(config.state_dir, "crashing", _CRASHING, 0.5),
    ]


def with_failed_step(config: StackConfig, ports: PortPicker) -> Sequence[ServiceSpec]:
    """The step that the server waits for fails."""
    first, _, server = three_services(config, ports)
    command = python("import sys; print('no such table'); sys.exit(3)")
    return [first, ServiceSpec("step", command, ExitsWithZero(), after=("plain",)), server]


async def supervise(state: Path) -> None:
    """Runs a stack until SIGTERM."""
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    async with Stack(StackConfig(state_dir=state, grace_seconds=1), with_stubborn):
        await asked.wait()


if __name__ == "__main__":
    asyncio.run(supervise(Path(sys.argv[1])))
