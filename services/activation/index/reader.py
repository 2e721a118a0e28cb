"""Reading an index: feature numbers, windows for a feature, windows that hold given tokens.

Everything comes from arrays mapped read-only; nothing is re-tokenised or re-encoded. A value that
is reported was measured: windows whose activation the index does not know are never returned as
silent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.activation.index import grid
from services.activation.index.artifact import ArtifactFiles, open_artifact
from services.activation.index.config import IndexConfig, Split
from services.activation.index.evidence import FeatureRecords, RecordStore
from services.activation.index.hashing import text_hash
from services.activation.index.misses import Rung
from services.activation.index.near_misses import NearMisses, Panel, windows_with
from services.activation.index.plan import IndexPlan, restore_plan
from services.activation.index.records import Floats
from services.activation.index.statistics import Stratum, densities, strata
from services.activation.index.strategies import (
    Choice,
    Strategy,
    allocate,
    choose_quantile,
    choose_random_active,
    choose_silent,
    choose_top,
)
from services.common.errors import InvalidArgument

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99)


@dataclass(frozen=True)
class CorpusWindow:
    """A stretch of corpus text, with the activation at every token where it was asked for."""

    number: int
    """Names the window within its index."""
    document: str
    source: str
    kind: str
    split: Split
    left_ids: tuple[int, ...]
    """Tokens before the window in its context, nearest last, as many as were asked for."""
    token_ids: tuple[int, ...]
    context_position: int
    """Tokens of the context before the window; the first one, put in front, is not counted."""
    activations: tuple[float, ...] | None
    """One per token; None where the window was searched without a feature."""
    probability: float
    """Probability in (0, 1] that the window entered the sample."""
    stratum: int
    """Bin of the maximum; quintile 0 to 4 for QUANTILE; 0 for silent windows."""
    rung: Rung | None = None
    """How near a near miss comes."""

    @property
    def maximum(self) -> float:
        """Largest activation; 0 where there is none."""
        return max(self.activations or (0.0,))

    @property
    def peak(self) -> int:
        """Place of the first token that reaches the maximum."""
        return (self.activations or (0.0,)).index(self.maximum)


@dataclass(frozen=True)
class SplitNumbers:
    """One feature in one split's population."""

    window_count: int
    active_window_count: int
    document_count_above_tau: int
    token_count: int


@dataclass(frozen=True)
class FeatureNumbers:
    """What the corpus says of one feature."""

    density: float
    """Share of scored tokens, over all splits, at which it fires."""
    maximum: float
    reference_max: float
    """Largest activation among the ten best exemplars of EXPLAIN; 0 where it never fires there."""
    quantiles: tuple[tuple[float, float], ...]
    """(probability, activation) over the EXPLAIN tokens at which it fires."""
    histogram: tuple[tuple[float, float, int], ...]
    """(low, high, tokens) per bin that is not empty, over all splits."""
    stratum: Stratum
    splits: tuple[SplitNumbers, SplitNumbers, SplitNumbers]


class IndexReader:
    """An open index; safe to use from many threads."""

    def __init__(self, files: ArtifactFiles) -> None:
        self.files = files
        config = IndexConfig.from_dict(files.manifest["config"])
        names = ("tokens", "document_offsets", "document_split", "window_split")
        arrays: dict[str, Any] = {name: files.array(name) for name in names}
        self.plan: IndexPlan = restore_plan(files.facts(), config, arrays)
        self._records = RecordStore(files, self.plan.window_split)
        self._token_histogram = files.array("token_histogram")
        self._window_histogram = files.array("window_histogram")
        self._tau_documents = files.array("tau_documents")
        self._maximum, self._reference = files.array("maximum"), files.array("reference_max")
        self._panel = Panel(self.plan, files.array("panel_hits"))
        self._near_misses = NearMisses(self.plan, files, self._panel, self._reference)
        counts = self.plan.split_report.scored_token_counts
        self.densities: Floats = densities(self._token_histogram, counts)
        """[features] share of scored tokens at which each feature fires."""
        self.strata: list[Stratum] = strata(
            self.densities, self._token_histogram, self._tau_documents
        )
        """[features] stratum of each feature."""

    @property
    def key(self) -> str:
        """Key of the index."""
        return self.plan.key

    @property
    def has_evidence(self) -> NDArray[np.bool_]:
        """[features] whether the feature fires in EXPLAIN."""
        fires: NDArray[np.bool_] = np.asarray(self._reference) > 0
        return fires

    @property
    def feature_count(self) -> int:
        """Features of the SAE."""
        return len(self.densities)

    @property
    def keeps_near_misses(self) -> bool:
        """False where an index of format 1 needs a feature's decoder neighbours to find them."""
        return self._near_misses.are_kept

    def numbers(self, feature: int) -> FeatureNumbers:
        """Numbers of one feature. InvalidArgument: FEATURE_OUT_OF_RANGE."""
        self._check(feature)
        tokens = self._token_histogram[:, feature].astype(np.int64)
        largest = float(self._maximum[feature])
        pooled = tokens.sum(axis=0)
        explain = tokens[Split.EXPLAIN]
        return FeatureNumbers(
            density=float(self.densities[feature]),
            maximum=largest,
            reference_max=float(self._reference[feature]),
            quantiles=tuple((p, grid.quantile(explain, p, largest)) for p in QUANTILES)
            if explain.any()
            else (),
            histogram=tuple(
                (float(grid.EDGES[b]), float(grid.EDGES[b + 1]), int(pooled[b]))
                for b in np.flatnonzero(pooled)
            ),
            stratum=self.strata[feature],
            splits=self._split_numbers(feature),
        )

    def exemplars(
        self,
        feature: int,
        strategy: Strategy,
        split: Split,
        count: int,
        *,
        seed: int = 0,
        left_token_count: int = 0,
        rungs: Sequence[Rung] = (Rung.SAME_TOKEN,),
        neighbors: Sequence[int] = (),
    ) -> list[CorpusWindow]:
        """Windows for one feature; fewer than ``count`` where the index holds fewer.

        TOP is ordered by maximum, strongest first; the others by window number. ``rungs`` are for
        NEAR_MISS; ``neighbors`` for its rung NEIGHBOR where the index keeps no near misses.

        Raises:
            InvalidArgument: FEATURE_OUT_OF_RANGE, or a count below 1.
        """
        self._check(feature)
        if count < 1:
            raise InvalidArgument("count must be at least 1", field="count")
        records = self._records.of(feature, split)
        if strategy is Strategy.NEAR_MISS:
            seed ^= text_hash(0, strategy.value)
            choices = self._near_miss(feature, split, count, seed, records, rungs, neighbors)
        else:
            choices = self._choose(feature, strategy, split, count, seed, records)
        return [self._window(choice, records, left_token_count) for choice in choices]

    def search(
        self,
        token_ids: Sequence[int],
        split: Split,
        count: int,
        *,
        seed: int = 0,
        left_token_count: int = 0,
    ) -> tuple[list[CorpusWindow], int]:
        """Random windows of a split that hold any of some tokens, and how many there are in all."""
        found = windows_with(self.plan, np.asarray(token_ids), split)
        chosen = choose_silent(found, np.ones(len(found)), [None] * len(found), count, seed)
        return [self._window(choice, None, left_token_count) for choice in chosen], len(found)

    def peak_tokens(self, feature: int) -> list[int]:
        """Tokens at which the feature peaks in its EXPLAIN exemplars, commonest first."""
        self._check(feature)
        records = self._records.of(feature, Split.EXPLAIN)
        strong = records.is_top & (records.maximum >= 0.5 * self._reference[feature])
        places = self.plan.layout.window_start[records.window[strong]] + records.peak[strong]
        tokens, counts = np.unique(self.plan.layout.tokens[places], return_counts=True)
        order = np.lexsort((tokens, -counts))
        return [int(token) for token in tokens[order]]

    def _choose(
        self,
        feature: int,
        strategy: Strategy,
        split: Split,
        count: int,
        seed: int,
        records: FeatureRecords,
    ) -> list[Choice]:
        bins = self._window_histogram[split, feature].astype(np.int64)
        seed ^= text_hash(0, strategy.value)  # strategies of one seed choose independently
        match strategy:
            case Strategy.TOP:
                return choose_top(records, count)
            case Strategy.QUANTILE:
                return choose_quantile(records, bins, count, seed)
            case Strategy.RANDOM_ACTIVE:
                return choose_random_active(records, bins, count, seed)
            case Strategy.NON_ACTIVATING:
                silent = self._panel.silent(feature, split)
                population = self.plan.split_report.window_counts[split] - int(bins.sum())
                probabilities = np.full(len(silent), len(silent) / max(1, population))
                return choose_silent(silent, probabilities, [None] * len(silent), count, seed)
            case Strategy.NEAR_MISS:
                return []

    def _near_miss(
        self,
        feature: int,
        split: Split,
        count: int,
        seed: int,
        records: FeatureRecords,
        rungs: Sequence[Rung],
        neighbors: Sequence[int],
    ) -> list[Choice]:
        """Near misses of the rungs asked for, in equal shares as far as there are enough."""
        found = self._near_misses.find(
            list(dict.fromkeys(rungs)),
            feature,
            split,
            self._records.of(feature, Split.EXPLAIN),
            records,
            self._window_histogram[split, feature].astype(np.int64),
            neighbors,
        )
        places = allocate(np.ones(len(found)), np.array([len(one) for one in found]), count)
        chosen = [one.choose(int(place), seed) for one, place in zip(found, places, strict=True)]
        return sorted((c for one in chosen for c in one), key=lambda choice: choice.window)

    def _window(
        self, choice: Choice, records: FeatureRecords | None, left_token_count: int
    ) -> CorpusWindow:
        layout, number = self.plan.layout, choice.window
        start, length = int(layout.window_start[number]), int(layout.window_length[number])
        context_start = int(layout.context_start[layout.window_context[number]])
        document = int(layout.context_document[layout.window_context[number]])
        left = layout.tokens[max(context_start, start - left_token_count) : start]
        values: NDArray[np.float32] | None = None
        if records is not None:
            values = np.zeros(length, np.float32)
            if choice.row is not None:
                values = records.dense(choice.row, length)
        return CorpusWindow(
            number=number,
            document=self.plan.documents.ids[document],
            source=self.plan.documents.sources[document],
            kind=self.plan.documents.kinds[document],
            split=Split(int(self.plan.window_split[number])),
            left_ids=tuple(left.tolist()),
            token_ids=tuple(layout.tokens[start : start + length].tolist()),
            context_position=start - context_start,
            activations=None if values is None else tuple(values.tolist()),
            probability=choice.probability,
            stratum=choice.stratum,
            rung=choice.rung,
        )

    def _split_numbers(self, feature: int) -> tuple[SplitNumbers, SplitNumbers, SplitNumbers]:
        report = self.plan.split_report
        explain, select, heldout = (
            SplitNumbers(
                window_count=report.window_counts[split],
                active_window_count=int(self._window_histogram[split, feature].sum()),
                document_count_above_tau=int(self._tau_documents[split, feature]),
                token_count=report.scored_token_counts[split],
            )
            for split in Split
        )
        return explain, select, heldout

    def _check(self, feature: int) -> None:
        if not 0 <= feature < self.feature_count:
            message = f"feature {feature} is not in [0, {self.feature_count})"
            raise InvalidArgument(message, field="feature", reason="FEATURE_OUT_OF_RANGE")


def open_index(folder: Path) -> IndexReader:
    """Open an index folder; errors as :func:`open_artifact`."""
    return IndexReader(open_artifact(folder))


__all__ = [
    "CorpusWindow",
    "FeatureNumbers",
    "IndexReader",
    "SplitNumbers",
    "Strategy",
    "open_index",
]
