"""Intervals: Wilson for independent shares, bootstrap over clusters otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache

import numpy as np
from scipy.stats import norm

from services.scorer.statistics.estimate import LEVEL, Bools, Bounds, Floats, Ints

REPLICATES = 1000
"""Bootstrap replicates; the Monte-Carlo error of a bound is then about 2 % of its width."""

_MIN_DEFINED = 0.5
"""A bootstrap whose statistic is undefined more often than this says nothing."""


def wilson(successes: float, trials: float, level: float = LEVEL) -> Bounds:
    """Wilson's score interval of a share of independent trials.

    `trials` may be fractional (an effective number).

    Raises:
        ValueError: no trials, or successes outside [0, trials].
    """
    if not 0 <= successes <= trials or not trials > 0:
        raise ValueError(f"{successes} successes in {trials} trials")
    z2 = _squared_quantile(level)
    share = successes / trials
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = np.sqrt(z2 * (share * (1 - share) + z2 / (4 * trials)) / trials) / (1 + z2 / trials)
    # At 0 and 1 the bound equals the share; rounding must not push it inside.
    low = 0.0 if successes == 0 else max(0.0, float(centre - half))
    high = 1.0 if successes == trials else min(1.0, float(centre + half))
    return Bounds(low, high, "wilson", level)


@cache
def _squared_quantile(level: float) -> float:
    return float(norm.ppf(0.5 + level / 2)) ** 2


@lru_cache(maxsize=4)
def _resamples(size: int, seed: int, replicates: int) -> Floats:
    """How often each of `size` clusters is drawn, [replicates, size]; not to be written to.

    Drawing takes longer than any statistic, and the methods of one feature resample the
    same number of documents by the same seed.
    """
    rng = np.random.default_rng(seed)
    counts: Floats = rng.multinomial(size, np.full(size, 1 / size), replicates).astype(np.float64)
    counts.flags.writeable = False
    return counts


class ClusterBootstrap:
    """Resamples whole clusters (documents, minimal pairs) with replacement.

    One set of resamples serves all metrics of a score, so that they vary together.

    Args:
        clusters: the cluster of every item, any hashable strings, shape [n].
        seed: of the resamples; the same seed and clusters give the same bounds.
    """

    def __init__(self, clusters: Sequence[str], seed: int, replicates: int = REPLICATES) -> None:
        names, inverse = np.unique(np.asarray(clusters, dtype=np.str_), return_inverse=True)
        self._of_item: Ints = inverse.astype(np.int64)
        self.cluster_count = len(names)
        # SeedSequence takes no negative numbers; int64 seeds do come negative.
        self._counts = _resamples(max(self.cluster_count, 1), seed % 2**64, replicates)

    def sums(self, per_item: Floats) -> Floats:
        """Sums of per-item moments [n, k] in every replicate, [replicates, k]."""
        totals = np.zeros((max(self.cluster_count, 1), per_item.shape[1]))
        np.add.at(totals, self._of_item, per_item)
        return self._counts @ totals

    def weights(self, weights: Floats) -> Floats:
        """Item weights [n] in every replicate, [replicates, n]."""
        return self._counts[:, self._of_item] * weights

    def count(self, items: Bools) -> int:
        """Number of clusters that hold any of the chosen items [n]."""
        return len(np.unique(self._of_item[items]))

    def bounds(
        self, replicates: Floats, natural_range: tuple[float, float], informative: int | None = None
    ) -> Bounds:
        """Percentile interval of replicates [r], those that are NaN left out.

        `informative` is the number of clusters that the statistic is about, such as those
        with an active item; all of them unless given.

        Where resampling says nothing (fewer than two clusters, or the statistic is
        undefined in over half of the replicates) the whole range is returned, kind
        `range`. Where every replicate lies on one end of [0, 1], which is no evidence of
        certainty, the interval is Wilson's over clusters, kind `wilson_cluster`.
        """
        known = replicates[np.isfinite(replicates)]
        clusters = self.cluster_count if informative is None else informative
        if clusters < 2 or known.size < _MIN_DEFINED * replicates.size:
            return Bounds(*natural_range, "range")
        tail = (1 - LEVEL) / 2
        low, high = (float(b) for b in np.quantile(known, [tail, 1 - tail]))
        if natural_range == (0.0, 1.0) and low == high and low in natural_range:
            exact = wilson(low * clusters, clusters)
            return Bounds(exact.low, exact.high, "wilson_cluster")
        return Bounds(low, high, "bootstrap_document")
