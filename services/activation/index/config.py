"""What an index is made from; every field is part of its key."""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass
from typing import Any

from services.activation.encoder.identity import digest
from services.common.errors import InvalidArgument

FORMAT_VERSION = 2
"""Raised whenever the same inputs would give other bytes."""


class Split(enum.IntEnum):
    """Who may see a window. The number is its place in every per-split array."""

    EXPLAIN = 0
    """Explainers see it."""
    SELECT = 1
    """Rounds and candidates compete on it."""
    HELDOUT = 2
    """Read once, for scores."""


SPLIT_COUNT = len(Split)

EXCLUDED = 255
"""Split of a window that the leak gate left out."""


@dataclass(frozen=True)
class IndexConfig:
    """How a corpus is cut, split and kept. Tuples are in the order of :class:`Split`."""

    context_token_count: int = 128
    """Tokens of one row of the model, the first token included."""
    window_token_count: int = 32
    """Tokens of one window; windows tile a context from position 1 and do not overlap."""
    min_window_token_count: int = 8
    """A shorter last tile is no window: it is encoded but not scored."""
    skipped_token_count: int = 0
    """Tokens at the start of a context that belong to no window: 1 where no first token is put in
    front, because the first position is never scored."""
    split_shares: tuple[float, float, float] = (0.5, 0.2, 0.3)
    """Wanted shares of tokens, per kind of text."""
    seed: int = 0
    """Decides splits, panel and samples."""
    join_ngram: int = 20
    """Documents that share so many tokens in a row belong to one cluster."""
    shingle_ngram: int = 13
    """Length of the shingles whose Jaccard similarity is taken between contexts."""
    join_jaccard: float = 0.2
    """Contexts at least this similar belong to one cluster."""
    leak_ngram: int = 11
    """A window that shares so many tokens in a row with an earlier split is left out."""
    max_cluster_share: float = 0.2
    """A cluster of several sources with a greater share of tokens is loosened, and reported."""
    top_counts: tuple[int, int, int] = (40, 12, 20)
    """De-duplicated exemplars kept per feature."""
    bin_sample_counts: tuple[int, int, int] = (12, 8, 24)
    """Windows sampled per feature and bin of the window's maximum."""
    panel_counts: tuple[int, int, int] = (1_000, 500, 1_500)
    """Random windows for which it is kept which features fire in them."""
    pool_counts: tuple[int, int, int] = (12_000, 6_000, 12_000)
    """Random windows that near misses are looked for in."""
    miss_counts: tuple[int, int, int] = (16, 8, 24)
    """Near misses kept per feature and rung."""
    chunk_context_count: int = 1_024
    """Contexts batched and sharded together; keeps values independent of the sharding."""
    batch_token_budget: int = 4_096
    """Padded tokens of one forward pass; part of the key because it moves rounding."""

    def __post_init__(self) -> None:
        if not 2 <= self.window_token_count < self.context_token_count:
            raise _bad("window_token_count", "must be at least 2 and below context_token_count")
        if self.window_token_count > 255:
            raise _bad("window_token_count", "must be at most 255: positions are stored in a byte")
        if not 1 <= self.min_window_token_count <= self.window_token_count:
            raise _bad("min_window_token_count", "must be between 1 and window_token_count")
        if self.skipped_token_count not in (0, 1):
            raise _bad("skipped_token_count", "must be 0 or 1")
        if any(share <= 0 for share in self.split_shares) or abs(sum(self.split_shares) - 1) > 1e-9:
            raise _bad("split_shares", "must be positive and sum to 1")
        for name in (
            "top_counts",
            "bin_sample_counts",
            "panel_counts",
            "pool_counts",
            "miss_counts",
        ):
            if min(getattr(self, name)) < 1:
                raise _bad(name, "must be at least 1 for every split")

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready mapping."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> IndexConfig:
        """Inverse of :meth:`as_dict`; unknown fields are refused."""
        try:
            tuples: dict[str, Any] = {
                name: tuple(v) if isinstance(v, list) else v for name, v in values.items()
            }
            return IndexConfig(**tuples)
        except TypeError as error:
            raise _bad("config", str(error)) from error


def index_key(fingerprints: dict[str, str], corpus_fingerprint: str, config: IndexConfig) -> str:
    """sha256 that finds an index again: same weights, same corpus, same configuration."""
    return digest(
        {
            "format": FORMAT_VERSION,
            "fingerprints": fingerprints,
            "corpus": corpus_fingerprint,
            "config": config.as_dict(),
        }
    )


def _bad(field: str, message: str) -> InvalidArgument:
    return InvalidArgument(f"{field} {message}", field=field)
