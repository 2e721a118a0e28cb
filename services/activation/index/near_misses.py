"""Near misses of a feature as an index knows them, each with the probability that it was drawn.

An index keeps near misses that were found among tens of thousands of windows when it was merged
(:mod:`misses`). One of format 1 keeps none: then the panel is looked through, which holds few for
most features. Where the index knows every window in which the feature fires, all windows of the
split that hold a peak token count. Weak windows, in which the feature stays below a tenth of its
reference maximum, come from the samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.activation.index.artifact import ArtifactFiles
from services.activation.index.config import Split
from services.activation.index.evidence import FeatureRecords
from services.activation.index.layout import Ints, Layout
from services.activation.index.misses import MissFinder, Portrait, Rung
from services.activation.index.plan import IndexPlan
from services.activation.index.records import Floats
from services.activation.index.strategies import (
    SILENT_SHARE,
    Choice,
    choose_silent,
    sample_probability,
)

_EVERY = (2**31, 2**31, 2**31)
_STRONG_SHARE = 0.5


class Panel:
    """The random windows of which the index knows what fires in them."""

    def __init__(self, plan: IndexPlan, hits: NDArray[np.uint8]) -> None:
        self.windows = plan.panel_windows
        self.split = plan.window_split[self.windows]
        self._hits = hits

    def fires(self, feature: int) -> NDArray[np.bool_]:
        """[panel] whether the feature fires in each window."""
        return np.unpackbits(self._hits[feature], count=len(self.windows)).astype(bool)

    def silent(self, feature: int, split: Split) -> Ints:
        """Windows of a split in which the feature is 0 at every token."""
        silent: Ints = self.windows[(self.split == split) & ~self.fires(feature)]
        return silent

    def places(self, feature: int, lowest_bin: int = 0) -> Ints:
        """Where the feature fires; how strongly is not known, so ``lowest_bin`` is not heeded."""
        return np.flatnonzero(self.fires(feature))


@dataclass(frozen=True)
class Candidates:
    """Windows of one rung to choose from."""

    rung: Rung
    windows: Ints
    probabilities: NDArray[np.float64]
    """Probability that each of them became known."""
    rows: Sequence[int | None]
    """Row of the feature's records where it is not silent but weak."""

    def __len__(self) -> int:
        return len(self.windows)

    def choose(self, count: int, seed: int) -> list[Choice]:
        """``count`` of them at random, marked with their rung."""
        chosen = choose_silent(self.windows, self.probabilities, self.rows, count, seed)
        return [replace(choice, rung=self.rung) for choice in chosen]


class NearMisses:
    """See the module's docstring; safe to use from many threads."""

    def __init__(
        self, plan: IndexPlan, files: ArtifactFiles, panel: Panel, reference: Floats
    ) -> None:
        self._plan, self._panel, self._reference = plan, panel, reference
        self._stored: dict[str, NDArray[Any]] | None = None
        if f"{_COLUMNS[0]}.npy" in files.manifest["files"]:
            self._stored = {name: files.array(name) for name in _COLUMNS}

    @property
    def are_kept(self) -> bool:
        """Whether the index keeps near misses of its own."""
        return self._stored is not None

    def find(
        self,
        rungs: Sequence[Rung],
        feature: int,
        split: Split,
        explain: FeatureRecords,
        records: FeatureRecords,
        bins: Ints,
        neighbors: Sequence[int],
    ) -> list[Candidates]:
        """Candidates of some rungs.

        Args:
            rungs: Which, without repeats.
            feature: Feature.
            split: Where the windows shall come from.
            explain: The feature's records in EXPLAIN: its exemplars.
            records: Its records in ``split``.
            bins: Windows of ``split`` in which it fires, by bin of the maximum.
            neighbors: Decoder neighbours; only read for an index of format 1.
        """
        portrait = self._portrait(feature, explain)
        window, rung, probability = self._silent(feature, split, portrait, neighbors, bins)
        found = []
        for wanted in rungs:
            mine = rung == wanted
            silent = Candidates(wanted, window[mine], probability[mine], [None] * int(mine.sum()))
            if wanted is Rung.SAME_TOKEN:
                silent = self._same_token(feature, split, portrait, records, bins, silent)
            found.append(silent)
        return found

    def _silent(
        self, feature: int, split: Split, portrait: Portrait, neighbors: Sequence[int], bins: Ints
    ) -> tuple[Ints, NDArray[np.uint8], NDArray[np.float64]]:
        """Silent windows of all rungs: number, rung, probability."""
        total = self._plan.split_report.window_counts[split]
        if self._stored is None:
            misses = self._finder.find(feature, portrait, np.asarray(neighbors, np.int64))
            window, rung = misses.window, misses.rung
            known = len(self._panel.silent(feature, split)) / max(1, total - int(bins.sum()))
        else:
            run = slice(*self._stored["miss_offsets"][feature : feature + 2].tolist())
            window = self._stored["miss_window"][run].astype(np.int64)
            rung = np.asarray(self._stored["miss_rung"][run])
            known = min(1.0, self._plan.config.pool_counts[split] / max(1, total))
        mine = self._plan.window_split[window] == split
        window, rung = window[mine], rung[mine]
        share = np.full(len(window), known)
        if self._stored is not None:
            counts = self._stored["miss_counts"][feature, split].astype(np.int64)
            kept = np.bincount(rung, minlength=len(Rung) + 1)
            share *= kept[rung] / np.maximum(1, counts[rung.astype(np.int64) - 1])
        return window, rung, np.minimum(1.0, share)

    def _same_token(
        self,
        feature: int,
        split: Split,
        portrait: Portrait,
        records: FeatureRecords,
        bins: Ints,
        silent: Candidates,
    ) -> Candidates:
        similar = windows_with(self._plan, portrait.peak_tokens, split)
        known = np.unique(records.window[records.is_sample])
        windows, probabilities = silent.windows, silent.probabilities
        if len(known) == int(bins.sum()):
            windows = np.setdiff1d(similar, known)
            probabilities = np.ones(len(windows))
        weak = np.flatnonzero(
            records.is_sample
            & (records.maximum < SILENT_SHARE * float(self._reference[feature]))
            & np.isin(records.window, similar)
        )
        return Candidates(
            Rung.SAME_TOKEN,
            np.concatenate([windows, records.window[weak]]),
            np.concatenate([probabilities, sample_probability(records, bins)[weak]]),
            [*([None] * len(windows)), *weak.tolist()],
        )

    def _portrait(self, feature: int, explain: FeatureRecords) -> Portrait:
        rows = explain.is_top & (explain.maximum >= _STRONG_SHARE * self._reference[feature])
        window = explain.window[rows]
        peaks = self._plan.layout.window_start[window] + explain.peak[rows]
        return self._finder.portrait(self._plan.layout, window, peaks)

    @cached_property
    def _finder(self) -> MissFinder:
        config = replace(self._plan.config, miss_counts=_EVERY)
        return MissFinder(
            self._plan.layout,
            self._panel.windows,
            self._panel.split,
            self._panel,
            np.asarray(self._reference),
            config,
        )


def windows_with(plan: IndexPlan, token_ids: Ints, split: Split) -> Ints:
    """Windows of a split that hold any of some tokens."""
    layout: Layout = plan.layout
    places = np.flatnonzero(np.isin(layout.tokens, np.asarray(token_ids, dtype=np.int32)))
    window = np.searchsorted(layout.window_start, places, side="right") - 1
    inside = (window >= 0) & (places < (layout.window_start + layout.window_length)[window])
    found = np.unique(window[inside])
    mine: Ints = found[plan.window_split[found] == split]
    return mine


_COLUMNS = ("miss_offsets", "miss_window", "miss_rung", "miss_counts")
