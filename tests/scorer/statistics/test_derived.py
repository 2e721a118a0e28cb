"""Gap closed and harmonic means."""

from __future__ import annotations

import pytest

from services.scorer.statistics.derived import (
    gap_closed,
    harmonic,
    harmonic_of_means,
    mean_of_harmonics,
)
from services.scorer.statistics.estimate import Estimate, defined, undefined


def test_the_gap_is_measured_from_top_token_to_token_table():
    """Guards against a ratio of scores, and a gap of noise that blows up."""
    assert gap_closed(0.6, 0.34, 0.66) == pytest.approx(0.8125)
    assert gap_closed(0.2, 0.34, 0.66) < 0
    assert gap_closed(0.6, 0.34, 0.345) is None
    assert gap_closed(0.6, 0.66, 0.34) is None
    assert gap_closed(None, 0.3, 0.6) is None and gap_closed(0.5, None, 0.6) is None


def test_harmonic_mean_of_means_and_mean_of_harmonics_are_two_numbers():
    """Guards against the one reported under the other's name."""
    coverage, rejection = [1.0, 0.2], [0.2, 1.0]
    assert harmonic_of_means(coverage, rejection).value == pytest.approx(0.6)
    assert mean_of_harmonics(coverage, rejection).value == pytest.approx(1 / 3)
    assert harmonic(defined(0.0), defined(0.0)).value == 0.0
    assert harmonic(undefined("why"), defined(1.0)).reason == "why"


def test_an_estimate_is_a_finite_value_or_a_reason():
    """Guards against NaN, infinities, and values that also say they are undefined."""
    for bad in (float("nan"), float("inf"), -float("inf")):
        with pytest.raises(ValueError, match="finite"):
            defined(bad)
    with pytest.raises(ValueError, match="exactly one"):
        Estimate(0.5, "but why")
    with pytest.raises(ValueError, match="exactly one"):
        Estimate(None)
