"""Computes the next part of an answer while the one before is being sent."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def ahead(
    runs: Iterable[range], compute: Callable[[range], Coroutine[Any, Any, T]]
) -> AsyncGenerator[tuple[range, T], None]:
    """Each run with what ``compute`` made of it, in order; at most two are held at once.

    Whatever ends the iteration ends what is being computed.
    """
    started: deque[tuple[range, asyncio.Task[T]]] = deque()
    try:
        for run in runs:
            started.append((run, asyncio.create_task(compute(run))))
            if len(started) > 1:
                first, task = started[0]
                yield first, await task
                started.popleft()
        for first, task in started:
            yield first, await task
    finally:
        for _, task in started:
            task.cancel()
        await asyncio.gather(*(task for _, task in started), return_exceptions=True)
