"""Waits until a Triton model answers again after its process or its server died."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class Recovery:
    """One wait per model, shared by all requests that failed with it.

    Args:
        is_alive: Asks the model for something cheap.
        seconds: How long to wait at most.
        pause_seconds: Between two questions.
    """

    def __init__(
        self,
        is_alive: Callable[[str], Awaitable[bool]],
        seconds: float,
        *,
        pause_seconds: float = 0.25,
    ) -> None:
        self._is_alive = is_alive
        self._seconds = seconds
        self._pause_seconds = pause_seconds
        self._waits: dict[str, asyncio.Task[None]] = {}

    async def wait(self, model: str) -> None:
        """Returns when ``model`` answers, or when the time is over."""
        task = self._waits.get(model)
        if task is None or task.done():
            task = self._waits[model] = asyncio.create_task(self._ask(model))
        await asyncio.shield(task)  # one caller's cancellation must not end the others' wait

    async def close(self) -> None:
        """End all waits."""
        tasks = list(self._waits.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, model: str) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                while not await self._is_alive(model):  # noqa: ASYNC110 (nobody signals it)
                    await asyncio.sleep(self._pause_seconds)
        except TimeoutError:
            return  # the caller tries once more and learns from that what is wrong
