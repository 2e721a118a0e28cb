"""The evidence of one request under short names, as the prompts show it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from saexplain.agent.v1.agent_pb2 import Evidence
from saexplain.common.v1.window_pb2 import (
    WINDOW_STRATEGY_NEAR_MISS,
    WINDOW_STRATEGY_NON_ACTIVATING,
    WINDOW_STRATEGY_QUANTILE,
    WINDOW_STRATEGY_TOP,
    Window,
    WindowStrategy,
)
from services.agent.explainers.llm.render import decoded, edges, mark, marked

TOKENS_BEFORE_FOCUS = 20
TOKENS_BEHIND_FOCUS = 4
"""What follows a token never changes its activation: little of it is shown."""

TOKEN_ROWS = 16

_SHOWN = {
    (WINDOW_STRATEGY_TOP, 0): 10,
    **{(WINDOW_STRATEGY_QUANTILE, quintile): 2 for quintile in range(5)},
    (WINDOW_STRATEGY_NEAR_MISS, 0): 8,
    (WINDOW_STRATEGY_NON_ACTIVATING, 0): 2,
}
"""Windows shown per strategy and stratum. Others only count in the table of tokens."""


@dataclass(frozen=True)
class ShownWindow:
    """A window as the prompt shows it: its short name, why it is there, its text."""

    alias: str
    group: str
    peak: int
    text: str


@dataclass(frozen=True)
class TokenRow:
    """A token of the windows: how often it fires of how often it stands there."""

    token: str
    mean_mark: float
    fired_count: int
    count: int


@dataclass
class EvidenceView:
    """Short names for windows, and those that are shown.

    Attributes:
        windows: those shown, in the order of the request.
        tokens: the tokens that fire most, by summed mark.
    """

    windows: list[ShownWindow] = field(default_factory=list)
    tokens: list[TokenRow] = field(default_factory=list)
    _by_alias: dict[str, Window] = field(default_factory=dict)
    _aliases: dict[str, str] = field(default_factory=dict)
    _reference_max: float = 0.0
    _sums: dict[bytes, int] = field(default_factory=dict)

    @classmethod
    def of(cls, evidence: Evidence) -> EvidenceView:
        """Names all windows of the evidence `w1`, `w2`, … in order, and renders a few of
        each selection, of quantiles a few of each fifth."""
        view = cls(_reference_max=evidence.facts.reference_max)
        distinct: dict[str, Window] = {}
        for listed in evidence.windows:
            for window in listed.windows:
                distinct.setdefault(window.name, window)
        view.tokens = view._token_rows(distinct.values())
        shown: dict[tuple[int, int], int] = defaultdict(int)
        for number, (name, window) in enumerate(distinct.items(), 1):
            view._aliases[name], view._by_alias[f"w{number}"] = f"w{number}", window
            is_quantile = window.strategy == WINDOW_STRATEGY_QUANTILE
            group = window.strategy, window.stratum if is_quantile else 0
            shown[group] += 1
            if shown[group] <= _SHOWN.get(group, 0):
                view.windows.append(view._shown(window))
        return view

    def name(self, alias: str) -> str | None:
        """The window's name for its short one; None if there is none."""
        window = self._by_alias.get(alias.strip())
        return window.name if window is not None else None

    def names(self, aliases: Iterable[str]) -> list[str]:
        """Names of those that exist, without repeats."""
        found = (self.name(alias) for alias in aliases)
        return list(dict.fromkeys(name for name in found if name is not None))

    def claims(self, aliases: Iterable[str]) -> list[str]:
        """The named windows, and the exemplars that peak at the same token as one of
        them: a reading of a few windows is one of the many like them, which no prompt
        has room for."""
        named = self.names(aliases)
        peaks = {_peak_word(self._by_alias[self._aliases[name]]) for name in named}
        like = [
            w.name
            for w in self._by_alias.values()
            if w.strategy == WINDOW_STRATEGY_TOP and _peak_word(w) in peaks
        ]
        return list(dict.fromkeys([*named, *like]))

    def strongest(self, count: int) -> list[ShownWindow]:
        """The shown windows with the highest peaks."""
        return sorted(self.windows, key=lambda window: -window.peak)[:count]

    def near_misses(self, count: int) -> list[ShownWindow]:
        """The first shown windows that look active and are not."""
        return [window for window in self.windows if window.group == "near_miss"][:count]

    def choose(self, names: Iterable[str], count: int) -> list[ShownWindow]:
        """Windows of given names, whether or not they are among `windows`: those first that
        peak at a token that none before them does."""
        wanted = set(names)
        found = [window for window in self._by_alias.values() if window.name in wanted]
        seen: Counter[str] = Counter()
        turns = []
        for window in found:
            seen[_peak_word(window)] += 1
            turns.append(seen[_peak_word(window)])
        order = sorted(range(len(found)), key=lambda i: (turns[i], i))
        return [self._shown(found[i]) for i in order[:count]]

    def _shown(self, window: Window) -> ShownWindow:
        marks = [mark(value, self._reference_max) for value in window.activations]
        focus = self._focus(window)
        left = list(window.left_context.token_bytes)
        tokens, every = left + list(window.tokens.token_bytes), [0] * len(left) + marks
        begin = max(0, len(left) + focus - TOKENS_BEFORE_FOCUS)
        end = len(left) + focus + TOKENS_BEHIND_FOCUS + 1
        return ShownWindow(
            alias=self._aliases[window.name],
            group=_group(window),
            peak=max(marks),
            text=marked(tokens[begin:end], every[begin:end]),
        )

    def _focus(self, window: Window) -> int:
        """Index of the token to show: the peak, or in a silent window the token that
        fires most elsewhere, which is what makes it a near miss."""
        if any(window.activations):
            return _peak(window)
        tokens = window.tokens.token_bytes
        return max(range(len(tokens)), key=lambda i: (self._sums.get(tokens[i], 0), i))

    def _token_rows(self, windows: Iterable[Window]) -> list[TokenRow]:
        counts: dict[bytes, int] = defaultdict(int)
        marks: dict[bytes, list[int]] = defaultdict(list)
        for window in windows:
            for token, value in zip(window.tokens.token_bytes, window.activations, strict=True):
                counts[token] += 1
                if mark(value, self._reference_max):
                    marks[token].append(mark(value, self._reference_max))
        self._sums = {token: sum(found) for token, found in marks.items()}
        ranked = sorted(marks, key=lambda token: (-self._sums[token], token))
        return [
            TokenRow(
                token=edges(decoded(token)),
                mean_mark=round(self._sums[token] / len(marks[token]), 1),
                fired_count=len(marks[token]),
                count=counts[token],
            )
            for token in ranked[:TOKEN_ROWS]
        ]


def _peak(window: Window) -> int:
    return max(range(len(window.activations)), key=lambda i: (window.activations[i], -i))


def _peak_word(window: Window) -> str:
    """The token at the peak, without case and spaces around it."""
    return decoded(window.tokens.token_bytes[_peak(window)]).strip().casefold()


def _group(window: Window) -> str:
    if window.strategy == WINDOW_STRATEGY_QUANTILE:
        return f"q{window.stratum + 1}"
    if window.strategy not in WindowStrategy.values() or not window.strategy:
        return "window"
    return WindowStrategy.Name(window.strategy).removeprefix("WINDOW_STRATEGY_").lower()
