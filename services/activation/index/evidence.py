"""What an index knows of one feature, decoded: records with their values, and bin counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.activation.index.artifact import IS_SAMPLE, IS_TOP, VALUE_STEPS, ArtifactFiles
from services.activation.index.config import Split
from services.activation.index.layout import Ints
from services.activation.index.records import Floats


@dataclass(frozen=True)
class FeatureRecords:
    """Kept records of one feature in one split, in order of bin and window."""

    window: Ints
    """[rows] window numbers."""
    is_top: NDArray[np.bool_]
    """[rows] exemplar by rank."""
    is_sample: NDArray[np.bool_]
    """[rows] member of the random sample of its bin."""
    bin: Ints
    """[rows] bin of the window's maximum."""
    offsets: Ints
    """[rows + 1] bounds of each row's entries."""
    position: Ints
    """[entries] place of a token within its window."""
    value: Floats
    """[entries] activation there."""

    @property
    def maximum(self) -> Floats:
        """[rows] largest activation of each window."""
        if len(self.window) == 0:
            return np.empty(0, np.float32)
        largest: Floats = np.maximum.reduceat(self.value, self.offsets[:-1])
        return largest

    @property
    def peak(self) -> Ints:
        """[rows] place of the first token that reaches the maximum."""
        spans = zip(self.offsets[:-1], self.offsets[1:], strict=True)
        places = [self.position[a + int(np.argmax(self.value[a:b]))] for a, b in spans]
        return np.array(places, dtype=np.int64)

    def dense(self, row: int, length: int) -> Floats:
        """Activation at every token of one row's window."""
        values = np.zeros(length, np.float32)
        entries = slice(int(self.offsets[row]), int(self.offsets[row + 1]))
        values[self.position[entries]] = self.value[entries]
        return values


class RecordStore:
    """Kept records of all features, mapped from an artifact."""

    def __init__(self, files: ArtifactFiles, window_split: NDArray[np.uint8]) -> None:
        names = ("row_offsets", "entry_offsets", "row_window", "row_flags", "row_bin")
        self._rows = {name: files.array(name) for name in names}
        self._entry_count = files.array("row_entry_count")
        self._position = files.array("entry_position")
        self._high, self._low = files.array("entry_value_high"), files.array("entry_value_low")
        self._maximum = files.array("maximum")
        self._window_split = window_split

    def of(self, feature: int, split: Split) -> FeatureRecords:
        """Records of one feature in one split."""
        rows = slice(*self._rows["row_offsets"][feature : feature + 2].tolist())
        entries = slice(*self._rows["entry_offsets"][feature : feature + 2].tolist())
        window = self._rows["row_window"][rows].astype(np.int64)
        counts = self._entry_count[rows].astype(np.int64)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        mine = np.flatnonzero(self._window_split[window] == split)
        # Rows are sorted by split, so the rows of one split are a run.
        first, last = (int(mine[0]), int(mine[-1]) + 1) if len(mine) else (0, 0)
        run, inside = slice(first, last), slice(int(offsets[first]), int(offsets[last]))
        steps = self._high[entries][inside].astype(np.uint16) << 8 | self._low[entries][inside]
        flags = self._rows["row_flags"][rows][run]
        return FeatureRecords(
            window=window[run],
            is_top=(flags & IS_TOP) > 0,
            is_sample=(flags & IS_SAMPLE) > 0,
            bin=self._rows["row_bin"][rows][run].astype(np.int64),
            offsets=offsets[first : last + 1] - offsets[first],
            position=self._position[entries][inside].astype(np.int64),
            value=(steps * (float(self._maximum[feature]) / VALUE_STEPS)).astype(np.float32),
        )
