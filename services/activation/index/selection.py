"""Which records an index keeps: exemplars by rank and samples by hash.

Both selections can be applied to parts and again to what the parts kept, in any order and
grouping, with the same result: that is what makes sharding exact.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from services.activation.index.config import IndexConfig
from services.activation.index.grid import BIN_COUNT, bin_of
from services.activation.index.hashing import UInts, mix, priorities, ranks_within
from services.activation.index.layout import Bytes, Ints, Layout
from services.activation.index.records import Records

CONTEXT_TOKENS_LEFT_OF_PEAK = 5
"""Exemplars that agree on so many tokens and on the peak token are duplicates."""

_SAMPLE_SALT = 0x73616D706C65


def split_of(records: Records, window_split: Bytes) -> Ints:
    """[rows] split of each record."""
    splits: Ints = window_split[records.window].astype(np.int64)
    return splits


def select_top(
    records: Records, layout: Layout, window_split: Bytes, config: IndexConfig
) -> Records:
    """Per feature and split the strongest windows without duplicates, strongest first.

    Of duplicates the strongest stays; equal maxima go to the lower window number.
    """
    split = split_of(records, window_split)
    group = records.feature * len(config.top_counts) + split
    order = np.lexsort((records.window, -records.maximum, group))
    records, group, split = records.take(order), group[order], split[order]
    first = _first_of_each(group, duplicate_keys(records, layout))
    records, group, split = records.take(first), group[first], split[first]
    kept = ranks_within(group) < np.asarray(config.top_counts)[split]
    return records.take(kept)


def select_samples(records: Records, window_split: Bytes, config: IndexConfig) -> Records:
    """Per feature, split and bin of the maximum the windows of lowest hash: a random sample."""
    split = split_of(records, window_split)
    group = sample_groups(records, split)
    order = np.lexsort((records.window, sample_priorities(records, config.seed), group))
    kept = ranks_within(group[order]) < np.asarray(config.bin_sample_counts)[split[order]]
    return records.take(order[kept])


def sample_groups(records: Records, split: Ints) -> Ints:
    """[rows] number of the (feature, split, bin) that a record belongs to."""
    groups: Ints = (records.feature * 3 + split) * BIN_COUNT + bin_of(records.maximum)
    return groups


def sample_priorities(records: Records, seed: int) -> UInts:
    """[rows] hash that decides who is sampled."""
    return priorities(seed ^ _SAMPLE_SALT, records.window, records.feature)


def duplicate_keys(records: Records, layout: Layout) -> UInts:
    """[rows] hash of the peak token and the five to its left, within the context."""
    context = layout.window_context[records.window]
    peak = layout.window_start[records.window] + records.peak
    begin = layout.context_start[context]
    state = np.zeros(len(records), dtype=np.uint64)
    for distance in range(CONTEXT_TOKENS_LEFT_OF_PEAK + 1):
        place = peak - distance
        token = np.where(place >= begin, layout.tokens[np.maximum(place, 0)], -1)
        state = mix(state ^ mix(token.astype(np.int64)))
    return state


def _first_of_each(group: Ints, key: UInts) -> NDArray[np.bool_]:
    """Mask of the first row of every (group, key)."""
    order = np.lexsort((np.arange(len(group)), key, group))
    grouped, keyed = group[order], key[order]
    first = np.ones(len(group), dtype=bool)
    first[1:] = (grouped[1:] != grouped[:-1]) | (keyed[1:] != keyed[:-1])
    mask = np.zeros(len(group), dtype=bool)
    mask[order[first]] = True
    return mask
