"""Which rows run in the next forward pass, so that nobody waits for somebody else's long call.

Start-time fair queueing over tokens: every call has a virtual start, the virtual time of its
arrival, and each of its rows is due at that start plus the call's tokens before it. The row that
is due first is always in the next pass; the rest of the pass is filled with rows of similar length
from those due soon after it, which keeps the padding small. A call that arrives while a long one
runs is therefore due at once, and the long one goes on beside it with its share.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from services.activation.encoder.encode import PassRow
from services.activation.encoder.loaded import LoadedSae
from services.activation.encoder.rows import DenseRow, SparseRow, TokenRow

_WINDOW_PASSES = 4
"""Passes' worth of due rows among which similar lengths are looked for."""

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
        token_budget: Padded tokens of one pass; a longer row has a pass of its own.
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
        window = self._window()
        if not window:
            return []
        self._virtual_time = max(self._virtual_time, window[0].call.due)
        taken = _best_run(window, self._token_budget)
        indices: dict[Call, set[int]] = {}
        for slot in taken:
            slot.call.due += len(slot.row)
            indices.setdefault(slot.call, set()).add(slot.index)
        for call, gone in indices.items():
            call.left = [index for index in call.left if index not in gone]
        self._calls = {number: call for number, call in self._calls.items() if call.left}
        return taken

    def abandoned(self) -> list[Call]:
        """Calls dropped since this was asked last."""
        found, self._abandoned = self._abandoned, []
        return found

    def _window(self) -> list[Slot]:
        """Rows in the order in which they are due, as many as some passes take."""
        due = [(call.due, number, 0) for number, call in self._calls.items()]
        heapq.heapify(due)
        window: list[Slot] = []
        tokens = 0
        while due and tokens < _WINDOW_PASSES * self._token_budget:
            when, number, place = heapq.heappop(due)
            call = self._calls[number]
            if place == 0 and call.abandoned():
                self._abandoned.append(self._calls.pop(number))
                continue
            if window and call.loaded.encoder is not window[0].call.loaded.encoder:
                continue
            slot = Slot(call, call.left[place])
            window.append(slot)
            tokens += len(slot.row)
            if place + 1 < len(call.left):
                heapq.heappush(due, (when + len(slot.row), number, place + 1))
        return window


def _best_run(window: Sequence[Slot], token_budget: int) -> list[Slot]:
    """The rows of neighbouring lengths, the first row among them, that fill a pass best."""
    slots = sorted(window, key=lambda slot: -len(slot.row))
    first = next(place for place, slot in enumerate(slots) if slot is window[0])
    tokens = [0, *accumulate(len(slot.row) for slot in slots)]
    best = slice(first, first + 1)
    most = -1
    for begin in range(first + 1):
        end = min(begin + max(1, token_budget // len(slots[begin].row)), len(slots))
        # On a tie the shorter rows: they are padded less.
        if end > first and tokens[end] - tokens[begin] >= most:
            best, most = slice(begin, end), tokens[end] - tokens[begin]
    return slots[best]
