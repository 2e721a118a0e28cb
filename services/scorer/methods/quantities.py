"""What is computed on a sample of windows: value, bootstrap over documents, interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from services.scorer.methods.sample import Sample
from services.scorer.statistics import classification as cls
from services.scorer.statistics.correlation import pearson, pearson_of_sums, pearson_sums
from services.scorer.statistics.estimate import Bools, Estimate, Floats, defined, undefined
from services.scorer.statistics.intervals import ClusterBootstrap


@dataclass(frozen=True)
class Quantity:
    """A number of a sample of windows.

    Attributes:
        value: the estimate, without interval.
        replicates: its value in every resample of the documents, NaN where undefined.
        informative: the windows that the value is about; their documents are its trials
            where it is exactly 0 or 1.
        natural_range: smallest and largest possible value.
    """

    value: Callable[[Sample], Estimate]
    replicates: Callable[[Sample, ClusterBootstrap], Floats]
    informative: Callable[[Sample], Bools]
    natural_range: tuple[float, float] = (0.0, 1.0)

    def estimate(self, sample: Sample, bootstrap: ClusterBootstrap) -> Estimate:
        """The value with its interval. `bootstrap` resamples the sample's documents."""
        value = self.value(sample)
        if value.value is None:
            return value
        documents = bootstrap.count(self.informative(sample))
        replicates = self.replicates(sample, bootstrap)
        return value.within(bootstrap.bounds(replicates, self.natural_range, documents))


def _confusion(sample: Sample) -> cls.Confusion:
    return cls.confusion(sample.called, sample.active, sample.weights)


def _ratios(sample: Sample, bootstrap: ClusterBootstrap) -> tuple[Floats, Floats, Floats]:
    cells = cls.confusion_cells(sample.called, sample.active, sample.weights)
    return cls.ratios_of_cells(bootstrap.sums(cells))


def _average_precisions(sample: Sample, bootstrap: ClusterBootstrap) -> Floats:
    weights = bootstrap.weights(sample.weights)
    return cls.average_precisions(sample.predicted_max, sample.active, weights)


def _pearson(sample: Sample) -> Estimate:
    predicted, measured, weights, _ = sample.tokens()
    return pearson(predicted, measured, weights)


def _pearsons(sample: Sample, bootstrap: ClusterBootstrap) -> Floats:
    predicted, measured, weights, owner = sample.tokens()
    moments = pearson_sums(predicted, measured, weights)
    per_window = np.zeros((len(sample.windows), moments.shape[1]))
    np.add.at(per_window, owner, moments)
    return pearson_of_sums(bootstrap.sums(per_window))


def _share(hits: Bools, weights: Floats) -> Estimate:
    if not hits.size:
        return undefined("there is no such window with a prediction")
    return defined(float(np.sum(weights * hits) / np.sum(weights)))


def _shares(hits: Bools, weights: Floats, bootstrap: ClusterBootstrap) -> Floats:
    sums = bootstrap.sums(np.stack([hits * weights, weights], axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        share: Floats = sums[:, 0] / sums[:, 1]
    return share


def _all(sample: Sample) -> Bools:
    return np.ones(len(sample.windows), np.bool_)


F1 = Quantity(lambda s: _confusion(s).f1(), lambda s, b: _ratios(s, b)[2], lambda s: s.active)
PRECISION = Quantity(
    lambda s: _confusion(s).precision(), lambda s, b: _ratios(s, b)[0], lambda s: s.called
)
RECALL = Quantity(
    lambda s: _confusion(s).recall(), lambda s, b: _ratios(s, b)[1], lambda s: s.active
)
AVERAGE_PRECISION = Quantity(
    lambda s: cls.average_precision(s.predicted_max, s.active, s.weights),
    _average_precisions,
    lambda s: s.active,
)
PEARSON = Quantity(_pearson, _pearsons, _all, (-1.0, 1.0))
COVERAGE = Quantity(
    lambda s: _share(s.called, s.weights), lambda s, b: _shares(s.called, s.weights, b), _all
)
REJECTION = Quantity(
    lambda s: _share(~s.called, s.weights), lambda s, b: _shares(~s.called, s.weights, b), _all
)
