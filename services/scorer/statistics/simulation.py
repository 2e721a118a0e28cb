"""The published simulation scores of one set of simulated windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from services.scorer.statistics import correlation as corr
from services.scorer.statistics.estimate import Estimate, Floats, undefined
from services.scorer.statistics.intervals import ClusterBootstrap
from services.scorer.statistics.published.delphi import delphi_scale
from services.scorer.statistics.published.transluce import transluce_d2, transluce_r2

METRICS = (
    "pearson",
    "r2",
    "absolute_deviation",
    "pearson_calibrated",
    "r2_calibrated",
    "absolute_deviation_calibrated",
    "pearson_delphi",
    "pearson_transluce",
    "r2_transluce",
    "d2_transluce",
)
"""What `simulation_scores` gives, the primary one first."""

_UNCALIBRATED = "no window to fit a line on has a simulation"
_CORRELATION = (-1.0, 1.0)
_EXPLAINED = (-np.inf, 1.0)


@dataclass(frozen=True)
class Simulations:
    """Simulated windows, n of them.

    Attributes:
        predicted: simulated shares of the reference maximum, one array per window.
        measured: measured shares, same shapes.
        documents: the document of each window.
    """

    predicted: Sequence[Floats]
    measured: Sequence[Floats]
    documents: Sequence[str]


def simulation_scores(
    scored: Simulations, fitted: Simulations, seed: int | None
) -> dict[str, Estimate]:
    """Every metric of `METRICS`; with intervals where a seed is given.

    Args:
        scored: at least one window.
        fitted: what the held-out line is fitted on; without any the calibrated scores are
            undefined.
    """
    bootstrap = None if seed is None else _TokenBootstrap(scored, seed)
    predicted, measured = np.concatenate(scored.predicted), np.concatenate(scored.measured)
    maximum = float(measured.max())
    rounded = delphi_scale(measured, maximum).astype(np.float64)
    own_line = _on_line(predicted, predicted, measured)
    values = {
        **_openai(predicted, measured, bootstrap, ""),
        "pearson_delphi": _pearson(predicted, rounded, bootstrap),
        "pearson_transluce": _pearson(own_line, measured, bootstrap),
        "r2_transluce": _centred(
            transluce_r2(own_line, measured),
            (own_line - measured) ** 2,
            _squares,
            bootstrap,
            measured,
        ),
        "d2_transluce": _centred(
            transluce_d2(own_line, measured),
            np.abs(own_line - measured),
            _distances,
            bootstrap,
            measured,
        ),
    }
    if fitted.predicted:
        line = _on_line(
            predicted, np.concatenate(fitted.predicted), np.concatenate(fitted.measured)
        )
        values |= _openai(line, measured, bootstrap, "_calibrated")
    else:
        names = [metric for metric in METRICS if metric.endswith("_calibrated")]
        values |= dict.fromkeys(names, undefined(_UNCALIBRATED))
    return {metric: values[metric] for metric in METRICS}


class _TokenBootstrap:
    """Resamples documents; its items are tokens."""

    def __init__(self, simulations: Simulations, seed: int) -> None:
        lengths = [len(p) for p in simulations.predicted]
        pairs = zip(simulations.documents, lengths, strict=True)
        self.clusters = ClusterBootstrap([d for d, n in pairs for _ in range(n)], seed)

    def weights(self, count: int) -> Floats:
        """How often each of `count` tokens stands in every replicate."""
        return self.clusters.weights(np.ones(count))


def _on_line(predicted: Floats, on_predicted: Floats, on_measured: Floats) -> Floats:
    slope, intercept = corr.fit_line(on_predicted, on_measured)
    return slope * predicted + intercept


def _openai(
    predicted: Floats, measured: Floats, bootstrap: _TokenBootstrap | None, suffix: str
) -> dict[str, Estimate]:
    squares = ((measured - predicted) ** 2, measured**2)
    deviations = (np.abs(measured - predicted), np.abs(measured))
    return {
        f"pearson{suffix}": _pearson(predicted, measured, bootstrap),
        f"r2{suffix}": _explained(corr.uncentred_r2(predicted, measured), squares, bootstrap),
        f"absolute_deviation{suffix}": _explained(
            corr.absolute_deviation_explained(predicted, measured), deviations, bootstrap
        ),
    }


def _pearson(predicted: Floats, measured: Floats, bootstrap: _TokenBootstrap | None) -> Estimate:
    value = corr.pearson(predicted, measured)
    if bootstrap is None or value.value is None:
        return value
    moments = corr.pearson_sums(predicted, measured, np.ones_like(measured))
    replicates = corr.pearson_of_sums(bootstrap.clusters.sums(moments))
    return value.within(bootstrap.clusters.bounds(replicates, _CORRELATION))


def _explained(
    value: Estimate, parts: tuple[Floats, Floats], bootstrap: _TokenBootstrap | None
) -> Estimate:
    """A value 1 - sum(errors) / sum(baseline) with its interval."""
    if bootstrap is None or value.value is None:
        return value
    sums = bootstrap.clusters.sums(np.stack(parts, axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        replicates: Floats = 1 - sums[:, 0] / sums[:, 1]
    return _bounded(value, replicates, bootstrap)


def _centred(
    value: Estimate,
    errors: Floats,
    baseline: Callable[[Floats, Floats], Floats],
    bootstrap: _TokenBootstrap | None,
    measured: Floats,
) -> Estimate:
    """A score against the mean or median, whose baseline moves with every resample."""
    if bootstrap is None or value.value is None:
        return value
    counts = bootstrap.weights(len(measured))
    error, total = counts @ errors, baseline(measured, counts)
    with np.errstate(divide="ignore", invalid="ignore"):
        explained = 1 - error / total
    # Transluce's convention for a constant truth.
    constant = np.where(error == 0, 1.0, 0.0)
    replicates = np.where(total == 0, constant, explained)
    replicates[counts.sum(axis=1) < 2] = np.nan
    return _bounded(value, replicates, bootstrap)


def _squares(measured: Floats, counts: Floats) -> Floats:
    """Sums of squares around the mean of each resample, [replicates]."""
    mean = counts @ measured / counts.sum(axis=1)
    squares: Floats = np.sum(counts * (measured - mean[:, None]) ** 2, axis=1)
    return squares


def _distances(measured: Floats, counts: Floats) -> Floats:
    """Sums of distances to the median of each resample, [replicates]."""
    order = np.argsort(measured, kind="stable")
    until = np.cumsum(counts[:, order], axis=1)
    middle = [np.sum(until <= half[:, None], axis=1) for half in _halves(until[:, -1])]
    median = (measured[order][middle[0]] + measured[order][middle[1]]) / 2
    distances: Floats = np.sum(counts * np.abs(measured - median[:, None]), axis=1)
    return distances


def _halves(sizes: Floats) -> tuple[Floats, Floats]:
    """Places of the two values in the middle, the same twice for an odd number."""
    return (sizes - 1) // 2, sizes // 2


def _bounded(value: Estimate, replicates: Floats, bootstrap: _TokenBootstrap) -> Estimate:
    finite: Floats = np.where(np.isfinite(replicates), replicates, np.nan)
    bounds = bootstrap.clusters.bounds(finite, _EXPLAINED)
    # Without resamples there is no range to give either: these scores have no lower end.
    return value.within(bounds if np.isfinite(bounds.low) else None)
