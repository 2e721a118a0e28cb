"""Hashes of integers and token runs, vectorised; the same everywhere, for ever."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

UInts = NDArray[np.uint64]


def mix(values: NDArray[Any]) -> UInts:
    """SplitMix64's finaliser: a bijection of 64-bit integers whose output bits look random."""
    x = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: UInts = x ^ (x >> np.uint64(31))
    return result


def priorities(seed: int, *columns: NDArray[Any]) -> UInts:
    """One hash per row over all columns: an order that depends on nothing but seed and row."""
    state = mix(np.full(len(columns[0]), seed % 2**64, dtype=np.uint64))
    for column in columns:
        state = mix(state ^ mix(column))
    return state


def ngram_hashes(tokens: NDArray[Any], n: int) -> UInts:
    """Hash of ``tokens[i:i + n]`` for every i; empty where there are fewer than n tokens.

    Two different runs share a hash with probability 2**-64 or so: a collision can join two
    clusters or leave a window out, it can never let a leak through.
    """
    count = len(tokens) - n + 1
    if count <= 0:
        return np.empty(0, dtype=np.uint64)
    mixed = mix(tokens)
    state = np.zeros(count, dtype=np.uint64)
    for offset in range(n):
        state = state * np.uint64(0xD6E8FEB86659FD93) + mixed[offset : offset + count]
    return mix(state)


def text_hash(seed: int, text: str) -> int:
    """A 64-bit hash of a seed and a name."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{text}".encode()).digest()[:8], "big")


def ranks_within(groups: NDArray[Any]) -> NDArray[np.int64]:
    """Place of each element within its run of equal values, from 0; ``groups`` is sorted."""
    if len(groups) == 0:
        return np.empty(0, dtype=np.int64)
    starts = np.flatnonzero(np.concatenate([[True], groups[1:] != groups[:-1]]))
    lengths = np.diff(np.concatenate([starts, [len(groups)]]))
    return np.arange(len(groups), dtype=np.int64) - np.repeat(starts, lengths)
