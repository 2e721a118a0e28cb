"""``python -m services.activation.triton``: writes the model repository and keeps Triton up."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from pathlib import Path

from services.activation.loading import model_specs
from services.activation.registry import load_registry
from services.activation.settings import ActivationSettings
from services.activation.triton.repository import write_repository
from services.activation.triton.settings import TritonSettings
from services.activation.triton.supervisor import supervise
from services.common.errors import SaexplainError
from services.common.logging import configure_logging
from services.common.triton_binary import TritonPorts, find_triton


async def _serve(settings: TritonSettings, activation: ActivationSettings, folder: Path) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    binary = find_triton(activation.cache_dir)
    registry = load_registry(activation.registry)
    limits = activation.encoder_limits
    specs = model_specs(
        registry, activation.cache_dir, activation.device, limits, activation.memory_budget_bytes
    )
    write_repository(folder, specs)
    host, port = settings.host_and_port
    ports = TritonPorts(grpc=port, host=host, metrics=settings.metrics_port)
    prefix = f"saexplain-{os.getpid()}-"
    command = binary.command(folder, ports, shared_memory_prefix=prefix)
    environment = binary.environment(os.environ)
    return await supervise(command, environment, stop, shared_memory_prefix=prefix)


def main() -> int:
    """Exit code of the server; 2 where it cannot be started."""
    settings, activation = TritonSettings(), ActivationSettings()
    configure_logging(activation.log_format, activation.log_level, "triton")
    try:
        with tempfile.TemporaryDirectory(prefix="saexplain-triton-") as temporary:
            folder = settings.repository or Path(temporary) / "models"
            return asyncio.run(_serve(settings, activation, folder))
    except SaexplainError as error:
        sys.stderr.write(f"{error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
