"""Who asks, for which project, under which trace: travels with every call.

The API receives it as gRPC metadata, workflows carry it in their input, activities
put it back into the metadata of their RPCs. The deadline needs no field: gRPC carries it.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_PRINCIPAL = "saexplain-principal"
_PROJECT = "saexplain-project"
_TRACEPARENT = "traceparent"


@dataclass(frozen=True)
class CallContext:
    """Attributes of a call.

    Attributes:
        principal: who asks; empty until authentication exists.
        project: `projects/{project}`.
        traceparent: W3C trace context; empty for none.
    """

    principal: str = ""
    project: str = "projects/default"
    traceparent: str = ""

    def to_metadata(self) -> tuple[tuple[str, str], ...]:
        """The non-empty attributes as gRPC metadata."""
        pairs = (
            (_PRINCIPAL, self.principal),
            (_PROJECT, self.project),
            (_TRACEPARENT, self.traceparent),
        )
        return tuple((key, value) for key, value in pairs if value)

    @classmethod
    def from_metadata(cls, metadata: Iterable[tuple[str, str | bytes]]) -> CallContext:
        """Reads what `to_metadata` wrote; unknown keys are left alone."""
        known = {key: value for key, value in metadata if isinstance(value, str)}
        return cls(
            principal=known.get(_PRINCIPAL, ""),
            project=known.get(_PROJECT, "projects/default"),
            traceparent=known.get(_TRACEPARENT, ""),
        )


_current: contextvars.ContextVar[CallContext | None] = contextvars.ContextVar(
    "call_context", default=None
)


def current() -> CallContext:
    """The context of the running call, or an empty one outside of calls."""
    return _current.get() or CallContext()


@contextlib.contextmanager
def use_context(context: CallContext) -> Iterator[None]:
    """Makes `context` the current one for the body."""
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)
