"""What tests make the fake services do wrong, and what they watch them do."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from typing import Any

from services.common.errors import SaexplainError


class Script:
    """Faults and gates by RPC name, and how often each RPC came in.

    Attributes:
        calls: requests by RPC name, failed ones included.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.requests: dict[str, list[Any]] = defaultdict(list)
        self._errors: dict[str, deque[SaexplainError]] = defaultdict(deque)
        self._always: dict[str, Callable[[Any], SaexplainError | None]] = {}
        self._gates: dict[str, asyncio.Event] = {}
        self._held: dict[str, Callable[[Any], bool]] = {}
        self._arrivals: dict[str, asyncio.Event] = {}

    def fail(self, rpc: str, *errors: SaexplainError) -> None:
        """The next calls of an RPC fail, one after the other."""
        self._errors[rpc].extend(errors)

    def fail_when(self, rpc: str, error_of: Callable[[Any], SaexplainError | None]) -> None:
        """Calls of an RPC fail whenever the function gives an error for the request."""
        self._always[rpc] = error_of

    def hold(self, rpc: str, only: Callable[[Any], bool] = lambda _: True) -> asyncio.Event:
        """Calls of an RPC, all or some, wait until `release`; the event is set when one has
        come in."""
        self._gates[rpc] = asyncio.Event()
        self._held[rpc] = only
        self._arrivals[rpc] = asyncio.Event()
        return self._arrivals[rpc]

    def release(self, rpc: str) -> None:
        """Lets held calls go on."""
        self._gates.pop(rpc).set()

    async def enter(self, rpc: str, request: Any) -> None:
        """Called by a fake at the begin of an RPC."""
        self.calls[rpc] += 1
        self.requests[rpc].append(request)
        if rpc in self._gates and self._held[rpc](request):
            gate = self._gates[rpc]
            self._arrivals[rpc].set()
            await gate.wait()
        if self._errors[rpc]:
            raise self._errors[rpc].popleft()
        error = self._always.get(rpc, lambda _: None)(request)
        if error is not None:
            raise error
