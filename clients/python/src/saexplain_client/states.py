"""When a run has ended."""

from __future__ import annotations

from typing import Final

from saexplain.explanation.v1.explanation_pb2 import RunState

TERMINAL_STATES: Final = frozenset(
    {
        RunState.RUN_STATE_SUCCEEDED,
        RunState.RUN_STATE_FAILED,
        RunState.RUN_STATE_CANCELLED,
    }
)
"""States that a run never leaves."""


def is_terminal(state: int) -> bool:
    """True if a run in this state has ended."""
    return state in TERMINAL_STATES
