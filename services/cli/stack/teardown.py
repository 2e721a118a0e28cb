"""Stops a stack from outside, and clears away what a killed one left."""

from __future__ import annotations

import asyncio
import os
import signal

from services.cli.stack import reaper
from services.cli.stack.config import StackConfig
from services.cli.stack.record import StackRecord, read_record

_POLL_SECONDS = 0.05


async def take_down(config: StackConfig) -> StackRecord | None:
    """Stops the stack that `stack.json` names and waits until nothing of it is left.

    Returns the record of the stack that was there; None where there was none. A pid that
    was given out again to somebody else is left alone.
    """
    record = read_record(config.record_path)
    if record is None:
        return None
    supervisor = record.supervisor.process
    if supervisor.alive:
        os.kill(supervisor.pid, signal.SIGTERM)
        # Its processes stop in a chain of needs, each with a grace of its own.
        patience = config.grace_seconds * (2 + len(record.processes))
        try:
            async with asyncio.timeout(patience):
                # Not our child: there is nothing to wait on.
                while supervisor.alive:  # noqa: ASYNC110
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            reaper.signal_group(supervisor, signal.SIGKILL)
    await end_leftovers(config)
    return record


async def end_leftovers(config: StackConfig) -> None:
    """Ends what `stack.json` still names and removes it; does nothing without the file."""
    record = read_record(config.record_path)
    if record is None:
        return
    groups = [process.process for process in reversed(record.processes)]
    await asyncio.to_thread(reaper.end_groups, groups, config.grace_seconds)
    await asyncio.to_thread(
        reaper.end_strays, record.stack_id, config.postgres_dir, config.grace_seconds
    )
    config.record_path.unlink(missing_ok=True)
