"""Evidence and results as compact text: one line each, activations as marks 1 to 10.

    w3 top 10/10 | He␣ was «␣virtually»10 «␣unknown»2 ↵

A mark is the activation as tenths of the reference maximum; tokens that round to 0
carry none. Whitespace that matters is visible, and every text is one line, so that no
text can look like a part of the prompt around it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from saexplain.agent.v1.agent_pb2 import Evidence
from saexplain.common.v1.experiment_pb2 import ProbeOutcome, ProbeResult
from saexplain.common.v1.window_pb2 import (
    WINDOW_STRATEGY_NEAR_MISS,
    WINDOW_STRATEGY_NON_ACTIVATING,
    WINDOW_STRATEGY_QUANTILE,
    WINDOW_STRATEGY_RANDOM_ACTIVE,
    WINDOW_STRATEGY_TOP,
    Window,
    WindowStrategy,
)

TOKENS_BEFORE_PEAK = 20
TOKENS_BEHIND_PEAK = 8

_SHOWN = {
    WINDOW_STRATEGY_TOP: 10,
    WINDOW_STRATEGY_QUANTILE: 10,
    WINDOW_STRATEGY_RANDOM_ACTIVE: 6,
    WINDOW_STRATEGY_NEAR_MISS: 8,
    WINDOW_STRATEGY_NON_ACTIVATING: 4,
}
_TOKEN_TABLE_ROWS = 16
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
        pieces += [_decoded(plain), f"«{_edges(_decoded(token))}»{value}"]
        plain = b""
    text = "".join([*pieces, _decoded(plain)])
    return "␣" + text[1:] if text.startswith(" ") else text


def _decoded(token: bytes) -> str:
    return visible(token.decode("utf-8", errors="replace"))


def _edges(text: str) -> str:
    """Leading and trailing spaces of a marked token made visible."""
    inner = text.strip(" ")
    if not inner:
        return "␣" * len(text)
    lead = len(text) - len(text.lstrip(" "))
    return "␣" * lead + inner + "␣" * (len(text) - lead - len(inner))


@dataclass(frozen=True)
class ShownWindow:
    """A window as the prompt shows it: its short name, why it is there, its text."""

    alias: str
    group: str
    peak: int
    text: str


@dataclass(frozen=True)
class TokenRow:
    """A token of the active windows: how often it fires of how often it stands."""

    token: str
    mean_mark: float
    fired_count: int
    count: int


@dataclass
class EvidenceView:
    """The evidence of one request under short names.

    Attributes:
        windows: those shown, strongest group first, in the order of the request.
        tokens: the tokens that fire most, by summed mark.
    """

    windows: list[ShownWindow] = field(default_factory=list)
    tokens: list[TokenRow] = field(default_factory=list)
    _names: dict[str, str] = field(default_factory=dict)
    _aliases: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, evidence: Evidence) -> EvidenceView:
        """Names all windows of the evidence `w1`, `w2`, … in order, and renders a few of
        each selection."""
        view = cls()
        reference_max = evidence.facts.reference_max
        shown: dict[int, int] = defaultdict(int)
        for listed in evidence.windows:
            for window in listed.windows:
                if window.name in view._aliases:
                    continue
                alias = f"w{len(view._aliases) + 1}"
                view._aliases[window.name], view._names[alias] = alias, window.name
                strategy = window.strategy or listed.selection.strategy
                shown[strategy] += 1
                if shown[strategy] <= _SHOWN.get(strategy, 6):
                    view.windows.append(_shown(alias, window, strategy, reference_max))
        view.tokens = _token_rows(evidence, reference_max)
        return view

    def name(self, alias: str) -> str | None:
        """The window's name for its short one; None if there is none."""
        return self._names.get(alias.strip())

    def alias(self, name: str) -> str | None:
        """The short name of a window; None if it is not in the evidence."""
        return self._aliases.get(name)

    def names(self, aliases: Iterable[str]) -> list[str]:
        """Names of those that exist, without repeats."""
        found = (self.name(alias) for alias in aliases)
        return list(dict.fromkeys(name for name in found if name is not None))

    def strongest(self, count: int) -> list[ShownWindow]:
        """The shown windows with the highest peaks."""
        return sorted(self.windows, key=lambda window: -window.peak)[:count]

    def near_misses(self) -> list[ShownWindow]:
        """The shown windows that look active and are not."""
        return [window for window in self.windows if window.group == "near_miss"]

    def choose(self, names: Iterable[str], evidence: Evidence, count: int) -> list[ShownWindow]:
        """Windows of given names, shown whether or not they were among the few."""
        wanted = set(names)
        every = {w.name: w for listed in evidence.windows for w in listed.windows}
        found = [every[name] for name in every if name in wanted][:count]
        reference_max = evidence.facts.reference_max
        return [_shown(self._aliases[w.name], w, w.strategy, reference_max) for w in found]


def _shown(alias: str, window: Window, strategy: int, reference_max: float) -> ShownWindow:
    marks = [mark(value, reference_max) for value in window.activations]
    peak = max(range(len(marks)), key=lambda i: window.activations[i])
    left = list(window.left_context.token_bytes)
    tokens = left + list(window.tokens.token_bytes)
    every = [0] * len(left) + marks
    begin = max(0, len(left) + peak - TOKENS_BEFORE_PEAK)
    end = len(left) + peak + TOKENS_BEHIND_PEAK + 1
    return ShownWindow(
        alias=alias,
        group=_group(strategy),
        peak=marks[peak],
        text=marked(tokens[begin:end], every[begin:end]),
    )


def _group(strategy: int) -> str:
    if strategy not in WindowStrategy.values() or not strategy:
        return "window"
    name = WindowStrategy.Name(WindowStrategy.ValueType(strategy))
    return name.removeprefix("WINDOW_STRATEGY_").lower()


def _token_rows(evidence: Evidence, reference_max: float) -> list[TokenRow]:
    seen: set[str] = set()
    counts: dict[bytes, int] = defaultdict(int)
    marks: dict[bytes, list[int]] = defaultdict(list)
    for listed in evidence.windows:
        for window in listed.windows:
            if window.name in seen:
                continue
            seen.add(window.name)
            for token, value in zip(window.tokens.token_bytes, window.activations, strict=True):
                counts[token] += 1
                if mark(value, reference_max):
                    marks[token].append(mark(value, reference_max))
    ranked = sorted(marks, key=lambda token: (-sum(marks[token]), token))
    return [
        TokenRow(
            token=_edges(_decoded(token)),
            mean_mark=round(sum(marks[token]) / len(marks[token]), 1),
            fired_count=len(marks[token]),
            count=counts[token],
        )
        for token in ranked[:_TOKEN_TABLE_ROWS]
    ]


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
        outcome=ProbeOutcome.Name(result.outcome).removeprefix("PROBE_OUTCOME_").lower(),
        peak=mark(result.max_activation, reference_max),
        text=text,
    )
