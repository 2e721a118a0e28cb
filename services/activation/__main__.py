"""``python -m services.activation [--role front|indexer]``: one gRPC server until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio

from services.activation.bootstrap import run
from services.activation.encoder.allocator import keep_freed_memory
from services.activation.settings import ActivationSettings
from services.common.logging import configure_logging


def main() -> None:
    """Read settings from the environment and serve."""
    parser = argparse.ArgumentParser(prog="python -m services.activation", description=__doc__)
    parser.add_argument("--role", choices=("front", "indexer"), default="front")
    role: str = parser.parse_args().role
    settings = ActivationSettings()
    keep_freed_memory()
    configure_logging(settings.log_format, settings.log_level, f"activation-{role}")
    asyncio.run(run(settings, role))


if __name__ == "__main__":
    main()
