"""Evidence and results as compact text: one line each, activations as marks 1 to 10.

    w3 top 10/10 | He␣ was «␣virtually»10 «␣unknown»2 ↵

A mark is the activation as tenths of the reference maximum; tokens that round to 0
carry none. Whitespace that matters is visible, and every text is one line, so that no
text can look like a part of the prompt around it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from saexplain.common.v1.experiment_pb2 import ProbeOutcome, ProbeResult

_VISIBLE = str.maketrans({"\n": "↵", "\r": "␍", "\t": "⇥", "«": "‹", "»": "›"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u0085\u2028\u2029]")
_RUN = re.compile(r" {2,}")


def visible(text: str) -> str:
    """Text on one line: line breaks, tabs, runs of spaces and control characters shown."""
    shown = _RUN.sub(lambda run: "␣" * len(run[0]), text.translate(_VISIBLE))
    return _CONTROL.sub(lambda char: f"\\x{ord(char[0]):02x}", shown)


def mark(activation: float, reference_max: float) -> int:
    """Tenths of the reference maximum, in [0, 10]."""
    if reference_max <= 0:
        return 0
    return max(0, min(10, int(10 * activation / reference_max + 0.5)))


def marked(token_bytes: Sequence[bytes], marks: Sequence[int]) -> str:
    """Tokens joined, those with a mark above 0 as `«token»mark`.

    Tokens without a mark are joined before they are decoded, as a character may be
    spread over several.
    """
    pieces: list[str] = []
    plain = b""
    for token, value in zip(token_bytes, marks, strict=True):
        if not value:
            plain += token
            continue
        pieces += [decoded(plain), f"«{edges(decoded(token))}»{value}"]
        plain = b""
    text = "".join([*pieces, decoded(plain)])
    return "␣" + text[1:] if text.startswith(" ") else text


def decoded(token: bytes) -> str:
    """A token as visible text; bytes that are no UTF-8 are replaced."""
    return visible(token.decode("utf-8", errors="replace"))


def edges(text: str) -> str:
    """Leading and trailing spaces of a marked token made visible."""
    inner = text.strip(" ")
    if not inner:
        return "␣" * len(text)
    lead = len(text) - len(text.lstrip(" "))
    return "␣" * lead + inner + "␣" * (len(text) - lead - len(inner))


@dataclass(frozen=True)
class ShownResult:
    """A measured probe as the prompt shows it."""

    id: str
    hypothesis: str
    prediction: str
    outcome: str
    peak: int
    text: str


def show_result(result: ProbeResult, reference_max: float) -> ShownResult:
    """Renders a probe with its marks, or plainly where it could not be measured."""
    tokens = result.tokens.token_bytes
    if len(tokens) and len(tokens) == len(result.activations):
        text = marked(tokens, [mark(value, reference_max) for value in result.activations])
    else:
        text = visible(result.probe.text)
    return ShownResult(
        id=result.probe.id,
        hypothesis=result.probe.hypothesis_id,
        prediction="active" if result.probe.predicted_active else "silent",
        outcome=_outcome(result),
        peak=mark(result.max_activation, reference_max),
        text=text,
    )


def _outcome(result: ProbeResult) -> str:
    name = ProbeOutcome.Name(result.outcome).removeprefix("PROBE_OUTCOME_").lower()
    return f"{name} (absorbed)" if result.absorbed_by else name
