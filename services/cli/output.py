"""Where a command writes: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.console import Console

from services.cli.failures import AnyError, as_json, as_lines
from services.cli.visible import plain

_PIPE_WIDTH = 180


class Output:
    """The two streams of a command.

    Args:
        json_wanted: results as one JSON document instead of text and tables.
    """

    def __init__(self, *, json_wanted: bool = False) -> None:
        self.json_wanted = json_wanted
        self._out = Console(highlight=False)
        if not self._out.is_terminal:
            # A file or pipe has no width of its own; 80 would break names in the middle.
            self._out.width = _PIPE_WIDTH
        self.err = Console(stderr=True, highlight=False)

    def result(self, document: Any, *renderables: Any) -> None:
        """Prints the document where JSON is wanted, else the renderables."""
        if self.json_wanted:
            # Not through rich, which would wrap it at the width of the terminal.
            print(json.dumps(document, indent=2, ensure_ascii=False), file=self._out.file)
            return
        for renderable in renderables:
            self._out.print(renderable)

    def note(self, message: str) -> None:
        """A line on stderr. Never read as markup: it may hold text from elsewhere."""
        self.err.print(plain(message))

    def failure(self, error: AnyError) -> None:
        """Tells an error: on stderr, and as the JSON document where that is wanted."""
        if self.json_wanted:
            self.result(as_json(error))
        first, *rest = as_lines(error)
        self.err.print(plain(f"error: {first}", style="bold red"))
        for line in rest:
            self.err.print(plain(line))


def as_dict(message: Message) -> dict[str, Any]:
    """A message by the JSON mapping of proto3, with the field names of the contract."""
    found: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    return found


def as_dicts(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """`as_dict` of each."""
    return [as_dict(message) for message in messages]
