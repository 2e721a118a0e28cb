"""Text from elsewhere, made safe to show.

Corpora and language models may write anything. Control characters, escape sequences and
text-direction overrides are replaced by what they are called, on a terminal as in HTML.
"""

from __future__ import annotations

import unicodedata

from rich.text import Text

# Control, format (text direction), private, surrogate, unassigned, line, paragraph.
_UNSAFE = frozenset({"Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"})
_WHITESPACE = {"\n": "↵\n", "\r": "␍", "\t": "⇥\t"}


def visible_text(text: str) -> str:
    """The text with line breaks, tabs and unsafe characters made visible."""
    return "".join(_WHITESPACE.get(c) or _named(c) for c in text)


def visible_bytes(token: bytes) -> str:
    """A token's bytes as text; bytes that are no UTF-8 by themselves as `\\xNN`."""
    return visible_text(token.decode("utf-8", "backslashreplace"))


def plain(text: str, style: str = "") -> Text:
    """The text for a terminal: no markup, no escape sequences; line breaks stay."""
    return Text("".join(c if c in "\n\t" else _named(c) for c in text), style=style)


def _named(character: str) -> str:
    if unicodedata.category(character) in _UNSAFE:
        return f"⟨U+{ord(character):04X}⟩"
    return character
