"""What a comparison is made of: its question, its parts, its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.cli.comparison.rows import Row
from services.common.statistics.paired import REPLICATES, MeanEstimate, PairedDifference


@dataclass(frozen=True)
class Question:
    """What is compared, fixed before any result is there.

    Attributes:
        explainers: the reference first.
        features: names of the features.
        primary: `method.metric`.
        seed: of the bootstrap and the tests.
        replicates: of both.
    """

    explainers: Sequence[str]
    features: Sequence[str]
    primary: str
    seed: int = 0
    replicates: int = REPLICATES


@dataclass(frozen=True)
class Difference:
    """How much higher an explainer is than another on a metric.

    Attributes:
        metric: `method.metric`.
        explainer: the one.
        reference: the other.
        found: None where no feature has both values.
        unpaired: features that lack a value of either.
        adjusted_p: p-value after Holm's correction within its family.
        insensitive: whether the metric is flagged.
    """

    metric: str
    explainer: str
    reference: str
    found: PairedDifference | None
    unpaired: int
    adjusted_p: float | None = None
    insensitive: bool = False


@dataclass(frozen=True)
class Leakage:
    """An explainer beside the trivial ones on the same items, on the primary metric.

    Attributes:
        count: features with a value and both baselines.
        top: mean of `top_token`.
        table: mean of `token_table`.
        gap_closed: (mean - top) / (table - top); None below a denominator of 0.01.
        above_table: difference to `token_table`; None without a feature.
        features_above: features on which the explainer is above `token_table`.
    """

    count: int
    top: float | None
    table: float | None
    gap_closed: float | None
    above_table: PairedDifference | None
    features_above: int

    @property
    def beats_table(self) -> bool:
        """Whether both the interval and the test of the difference say so: with few features
        a bootstrap's interval alone is too narrow."""
        found = self.above_table
        if found is None or found.estimate.low is None or found.p_value is None:
            return False
        return found.estimate.low > 0 and found.p_value <= 1 - found.estimate.level


@dataclass(frozen=True)
class Spent:
    """Cost per feature, over all runs, failed ones included.

    Attributes:
        visible_tokens, explaining_tokens, scoring_tokens: means; None without a run.
        money: mean; None where a price is not known, or currencies differ.
        currency: ISO 4217; empty where nothing was bought or `money` is None.
        seconds: mean from start to end.
    """

    visible_tokens: float | None
    explaining_tokens: float | None
    scoring_tokens: float | None
    money: float | None
    currency: str
    seconds: float | None


@dataclass(frozen=True)
class Standing:
    """One explainer.

    Attributes:
        explainer: its name.
        outcomes: runs by outcome.
        partial: runs that a budget ended early.
        means: per metric, the mean over the features that have a value.
        by_stratum: the primary metric per group of the funnel.
        leakage: beside the trivial explanations.
        spent: cost per feature.
        judges: who predicted the primary metric.
    """

    explainer: str
    outcomes: Mapping[str, int]
    partial: int
    means: Mapping[str, MeanEstimate]
    by_stratum: Mapping[str, MeanEstimate]
    leakage: Leakage
    spent: Spent
    judges: Sequence[str]

    def count(self) -> int:
        """Runs."""
        return sum(self.outcomes.values())


@dataclass(frozen=True)
class Comparison:
    """The whole result.

    Attributes:
        question: what was asked.
        rows: by explainer and feature, in the question's order.
        metrics: the primary one first.
        flagged: metrics that overlook a missing or an extra part.
        standings: one per explainer, in the question's order.
        primary: differences on the primary metric.
        others: differences on all other metrics.
        funnel: features of the SAE's index by stratum; empty where it was not asked.
        strata: the question's features by stratum.
    """

    question: Question
    rows: Sequence[Row]
    metrics: Sequence[str]
    flagged: frozenset[str]
    standings: Sequence[Standing]
    primary: Sequence[Difference]
    others: Sequence[Difference]
    funnel: Mapping[str, int]
    strata: Mapping[str, int]

    @property
    def failures(self) -> Sequence[Row]:
        """Rows without an explanation."""
        return [row for row in self.rows if not row.explained]

    @property
    def mixed_judges(self) -> bool:
        """Whether the primary metric was predicted by different judges."""
        return len({judge for standing in self.standings for judge in standing.judges}) > 1
