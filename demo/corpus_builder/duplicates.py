"""Leaves out documents that repeat what was already read, exactly or nearly."""

from __future__ import annotations

import re
from hashlib import blake2b

SHINGLE_WORDS = 8
MAXIMUM_SHARED = 0.25


class NearDuplicates:
    """Remembers the word shingles of every document that was kept."""

    def __init__(self, maximum_shared: float = MAXIMUM_SHARED) -> None:
        self._maximum_shared = maximum_shared
        self._seen: set[bytes] = set()

    def repeats(self, text: str) -> bool:
        """Whether more than the maximum share of the text's shingles were seen; else keep them."""
        shingles = _shingles(text)
        shared = len(shingles & self._seen)
        if shared > self._maximum_shared * len(shingles):
            return True
        self._seen |= shingles
        return False


def _shingles(text: str) -> set[bytes]:
    words = re.findall(r"\w+", text.lower())
    count = max(1, len(words) - SHINGLE_WORDS + 1)
    joined = (" ".join(words[start : start + SHINGLE_WORDS]) for start in range(count))
    return {blake2b(shingle.encode(), digest_size=8).digest() for shingle in joined}
