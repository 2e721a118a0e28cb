"""Simulated activations out of replies without log-probabilities, as OpenAI's
automated-interpretability reads them, and Neuronpedia's fork of it.

Both turn whatever they cannot read into zeros, which look like predictions. Our own
judges fail such an item instead (`judges/simulating.py`).
"""

from __future__ import annotations

import json

SEPARATOR = "༗\n"
"""Ends a line of the text format."""

_END_OF_TEXT = "<|endoftext|>"
_NOT_END_OF_TEXT = "<|not_endoftext|>"
_DIGITS = {str(number): float(number) for number in range(11)}


def openai_text(completion: str, tokens: list[str]) -> list[float]:
    """One number per token; all 0 unless there is a line per token that starts with it.

    A value counts if it is exactly "0" to "10". A closing separator sticks to the last
    value, which is lost.
    """
    zeros = [0.0] * len(tokens)
    lines = completion.split(SEPARATOR)
    if lines and lines[-1] == "" and len(lines) == len(tokens) + 1:
        # The reference drops the empty rest together with the separator's line.
        lines = lines[:-1]
        lines[-1] += SEPARATOR
    if len(lines) != len(tokens):
        return zeros
    values = []
    for line, token in zip(lines, tokens, strict=True):
        if not line.startswith(token):
            return zeros
        values.append(_DIGITS.get(line.rsplit("\t", 1)[-1], 0.0))
    return values


def fork_text(completion: str, tokens: list[str]) -> list[float]:
    """The fork: a closing separator is dropped, plain line breaks are taken where there is
    no separator, one leading space of a token may be missing, and any number in [0, 10]
    counts. All 0 unless every token has its line."""
    separator = SEPARATOR if SEPARATOR in completion else "\n"
    lines = completion.split(separator)
    if lines[-1] == "":
        lines.pop()
    if len(lines) != len(tokens):
        return [0.0] * len(tokens)
    values = []
    for line, token in zip(lines, tokens, strict=True):
        shown = token.replace(_END_OF_TEXT, _NOT_END_OF_TEXT)
        if not line.startswith((token, shown, shown.removeprefix(" "))):
            return [0.0] * len(tokens)
        values.append(_in_range(line.rsplit("\t", 1)[-1]))
    return values


def fork_json(completion: str, tokens: list[str]) -> list[float]:
    """The fork's JSON reply: `activations`, one {token, activation} per token, whatever the
    token says. All 0 for another shape; 0 for an entry that cannot be read."""
    zeros = [0.0] * len(tokens)
    try:
        entries = json.loads(completion)["activations"]
    except (ValueError, KeyError, TypeError):
        return zeros
    if not isinstance(entries, list) or len(entries) != len(tokens):
        return zeros
    return [_entry(entry) for entry in entries]


def _entry(entry: object) -> float:
    if not isinstance(entry, dict) or "token" not in entry:
        return 0.0
    return _in_range(entry.get("activation"))


def _in_range(value: object) -> float:
    if not isinstance(value, str | int | float):
        return 0.0
    try:
        number = float(value)
    except ValueError:
        return 0.0
    return number if 0 <= number <= 10 else 0.0
