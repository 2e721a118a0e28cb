"""Guards tables of many comparisons against stars that chance alone puts there."""

from __future__ import annotations

import math

import numpy as np
import pytest

from services.common.statistics.holm import holm


def test_adjusted_values_are_those_worked_out_by_hand() -> None:
    """4 × 0.005, 3 × 0.01, 2 × 0.03 = 0.06, then 0.04 may not be below 0.06."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_nothing_exceeds_one_and_one_comparison_stays_as_it_is() -> None:
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


def test_the_error_of_the_whole_family_is_kept() -> None:
    """20 tests without any effect: some uncorrected p-value is below 0.05 two times in three,
    a corrected one in about 5 % of families."""
    families = np.random.default_rng(0).uniform(size=(1000, 20)).tolist()
    assert sum(min(family) <= 0.05 for family in families) > 600
    assert sum(min(holm(family)) <= 0.05 for family in families) < 75


@pytest.mark.parametrize("wrong", [-0.1, 1.1, math.nan])
def test_what_is_no_probability_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="p-values"):
        holm([0.5, wrong])
