"""Books of memory under a budget: what is held, by whom, and what goes when room is needed.

Not safe for threads; its owner locks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from services.common.errors import FailedPrecondition, ResourceExhausted

_RETRY_SECONDS = 5.0
"""When to come back where everything is in use: calls take seconds."""


@dataclass(eq=False)
class Held:
    """One entry of the books."""

    label: str
    bytes: int
    on_gone: Callable[[], None]
    """Called when the entry leaves the books; frees what it stands for."""
    users: int = 1
    """Whoever needs it; at first the one who loads it."""
    used: float = 0.0
    """Last use, by the ledger's clock."""
    retired: bool = False
    """Leaves with its last user."""


@dataclass
class Ledger:
    """See the module's docstring."""

    budget_bytes: int
    clock: Callable[[], float]
    eviction_count: int = 0
    _entries: list[Held] = field(default_factory=list)

    @property
    def used_bytes(self) -> int:
        """Everything on the books, what is being loaded included."""
        return sum(entry.bytes for entry in self._entries)

    def check_possible(self, label: str, needed: int) -> None:
        """Refuse what does not fit into an empty budget.

        Raises:
            FailedPrecondition: MEMORY_EXHAUSTED, with the figures.
        """
        if needed > self.budget_bytes:
            raise FailedPrecondition(
                f"{label} needs {_figure(needed)} with its model, this service may use "
                f"{_figure(self.budget_bytes)} in all; raise its memory budget",
                reason="MEMORY_EXHAUSTED",
                metadata=self._figures(needed),
            )

    def reserve(self, label: str, needed: int, on_gone: Callable[[], None]) -> Held:
        """Enter what is about to be loaded; idle entries make room, longest unused first.

        Raises:
            ResourceExhausted: MEMORY_EXHAUSTED where what is in use leaves no room.
        """
        while self.used_bytes + needed > self.budget_bytes:
            idle = [entry for entry in self._entries if entry.users == 0]
            if not idle:
                raise ResourceExhausted(
                    f"{label} needs {_figure(needed)}; {_figure(self.used_bytes)} of "
                    f"{_figure(self.budget_bytes)} are in use",
                    reason="MEMORY_EXHAUSTED",
                    retry_after_seconds=_RETRY_SECONDS,
                    metadata=self._figures(needed),
                )
            self.eviction_count += 1
            self._remove(min(idle, key=lambda entry: entry.used))
        entry = Held(label, needed, on_gone, used=self.clock())
        self._entries.append(entry)
        return entry

    def use(self, entry: Held) -> None:
        """One more user."""
        entry.users += 1
        entry.used = self.clock()

    def leave(self, entry: Held) -> None:
        """One user less."""
        entry.users -= 1
        entry.used = self.clock()
        if entry.retired and entry.users == 0:
            self._remove(entry)

    def retire(self, entry: Held) -> None:
        """To be gone as soon as nobody uses it."""
        entry.retired = True
        if entry.users == 0:
            self._remove(entry)

    def _remove(self, entry: Held) -> None:
        self._entries.remove(entry)
        entry.on_gone()

    def _figures(self, needed: int) -> dict[str, str]:
        return {
            "needed_bytes": str(needed),
            "used_bytes": str(self.used_bytes),
            "budget_bytes": str(self.budget_bytes),
        }


def _figure(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB"
