"""How texts and tokens stand in a prompt.

Corpus text is data: everything of it is on one line, in JSON's quotes or cut into numbered
tokens without a space, so that no text can end its line, begin another item or close what
it stands in.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TypeVar

from saexplain.common.v1.explanation_pb2 import Explanation
from saexplain.common.v1.text_pb2 import TokenSpan
from services.common.pattern import visible

_TAG = "</explanation"

BEGIN, END = "⟪", "⟫"
"""Around highlighted tokens; the same characters in a text are drawn as « and »."""

A = TypeVar("A")

_CLASHING = str.maketrans({BEGIN: "«", END: "»"})


def read_explanation(explanation: Explanation) -> str:
    """What judges and writers read: the description, the label only where there is none.
    It cannot close the tag that it stands in."""
    text = explanation.description or explanation.label
    return text.replace(_TAG, "<explanation")


def quoted(text: str) -> str:
    """The text as one JSON string on one line that closes no tag."""
    encoded = json.dumps(text, ensure_ascii=False).replace(_TAG, "\\u003c/explanation")
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in encoded)


def passage(tokens: TokenSpan, highlights: Sequence[int] = ()) -> str:
    """The tokens as one JSON string, runs of highlighted ones between ⟪ and ⟫."""
    chosen = set(highlights)
    text = ""
    for highlighted, run in groupby(range(len(tokens.token_bytes)), chosen.__contains__):
        # A run is decoded as a whole: single tokens may be parts of a character.
        raw = b"".join(tokens.token_bytes[place] for place in run)
        shown = raw.decode(errors="replace").translate(_CLASHING)
        text += f"{BEGIN}{shown}{END}" if highlighted else shown
    return quoted(text)


def numbered(tokens: TokenSpan) -> str:
    """`0:The 1:␣cat`: every token with its index; no token holds a space or a line break."""
    return " ".join(f"{i}:{visible(t)}" for i, t in enumerate(tokens.token_bytes))


def joined(tokens: TokenSpan) -> str:
    """The tokens as one visible line."""
    return "".join(visible(token) for token in tokens.token_bytes)


def by_number(answers: Iterable[tuple[int, A]], count: int) -> dict[int, A]:
    """Answers by the number of their item, 1 to `count`; an item that is answered twice
    and differently has no answer."""
    found: dict[int, A] = {}
    contradicted: set[int] = set()
    for number, answer in answers:
        if found.setdefault(number, answer) != answer:
            contradicted.add(number)
    return {n: a for n, a in found.items() if n not in contradicted and 1 <= n <= count}
