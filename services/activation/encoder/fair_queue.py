"""Which rows run in the next forward pass, so that nobody waits for somebody else's long call.

Start-time fair queueing over tokens: every call has a virtual start, the virtual time of its
arrival, and each of its rows is due at that start plus the call's tokens before it. A pass takes
rows in the order in which they are due until it is full; rows of any lengths go together, since
passes are packed without padding. A call that arrives while a long one runs is therefore due at
once, and the long one goes on beside it with its share.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from services.activation.encoder.encode import PassRow
from services.activation.encoder.loaded import LoadedSae
from services.activation.encoder.rows import DenseRow, SparseRow, TokenRow

Answer = list[DenseRow | SparseRow] | Exception
"""One result per row in the order of the call, or why there is none."""


@dataclass(eq=False)
class Call:
    """One caller's rows for one SAE; rows and features have been checked."""

    loaded: LoadedSae
    rows: Sequence[TokenRow]
    features: tuple[int, ...] | None
    """None asks for all of them, sparse."""
    answer: Callable[[Answer], None]
    """Called once, from the thread that computes; never once the call is forgotten."""
    abandoned: Callable[[], bool]
    """Whether nobody waits any more; asked before each of its forward passes."""
    arrived: float = 0.0
    """Seconds of the batcher's clock."""
    started: bool = field(default=False, init=False)
    left: list[int] = field(init=False)
    """Rows not yet taken, longest first."""
    results: dict[int, DenseRow | SparseRow] = field(default_factory=dict, init=False)
    due: float = field(default=0.0, init=False)
    """Virtual time at which the next row is due."""
    tokens: int = field(init=False)

    def __post_init__(self) -> None:
        lengths = [len(row) for row in self.rows]
        self.tokens = sum(lengths)
        self.left = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))


@dataclass(frozen=True)
class Slot:
    """One row of a pass."""

    call: Call
    index: int

    @property
    def row(self) -> TokenRow:
        """The token ids."""
        return self.call.rows[self.index]

    def asked(self) -> PassRow:
        """For the encoder."""
        return PassRow(self.row, self.call.loaded.sae, self.call.features)


class FairQueue:
    """Calls with rows that have not been taken. Not safe for threads.

    Args:
        token_budget: Tokens of one pass; a longer row has a pass of its own.
    """

    def __init__(self, token_budget: int) -> None:
        self._token_budget = token_budget
        self._calls: dict[int, Call] = {}
        self._numbers = itertools.count()
        self._virtual_time = 0.0
        self._abandoned: list[Call] = []

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, call: Call) -> None:
        """Queue a call; its first row is due now."""
        call.due = self._virtual_time
        self._calls[next(self._numbers)] = call

    def drop(self, call: Call) -> None:
        """Forget what has not been taken of a call."""
        self._calls = {n: known for n, known in self._calls.items() if known is not call}

    def take(self) -> list[Slot]:
        """Rows of the next pass, all for one encoder. Empty where nothing is left.

        Calls that turn out to be abandoned are dropped; :meth:`abandoned` lists them.
        """
        taken = self._due_first()
        if taken:
            self._virtual_time = max(self._virtual_time, taken[0].call.due)
        for slot in taken:
            slot.call.due += len(slot.row)
            slot.call.left.remove(slot.index)
        self._calls = {number: call for number, call in self._calls.items() if call.left}
        return taken

    def abandoned(self) -> list[Call]:
        """Calls dropped since this was asked last."""
        found, self._abandoned = self._abandoned, []
        return found

    def _due_first(self) -> list[Slot]:
        """Rows in the order in which they are due, as many as fit; all for the first's encoder."""
        due = [(call.due, number, 0) for number, call in self._calls.items()]
        heapq.heapify(due)
        taken: list[Slot] = []
        room = self._token_budget
        while due and room > 0:
            when, number, place = heapq.heappop(due)
            call = self._calls[number]
            if place == 0 and call.abandoned():
                self._abandoned.append(self._calls.pop(number))
                continue
            if taken and call.loaded.encoder is not taken[0].call.loaded.encoder:
                continue
            slot = Slot(call, call.left[place])
            length = len(slot.row)
            if length > room and taken:
                continue  # a shorter row of somebody else may still fit
            taken.append(slot)
            room -= length
            if place + 1 < len(call.left):
                heapq.heappush(due, (when + length, number, place + 1))
        return taken
