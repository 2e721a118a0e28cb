"""FADE's four numbers on the committed vectors."""

from __future__ import annotations

import numpy as np
import pytest

from services.scorer.statistics.published import fade
from tests.parity.vectors import cases, same


@pytest.mark.parametrize(("case", "tolerance"), cases("fade_clarity"))
def test_clarity(case, tolerance):
    """Guards against an unfolded area, and a ranking that is not turned round with it."""
    inputs, wanted = case["inputs"], case["expected"]
    clarity, precision = fade.fade_clarity(
        np.array(inputs["natural"], np.float64), np.array(inputs["synthetic"], np.float64)
    )
    if "error" in wanted:
        assert clarity.value is None and precision.value is None
        return
    assert same(clarity, wanted["clarity"], tolerance)
    assert same(precision, wanted["average_precision"], tolerance)


@pytest.mark.parametrize(("case", "tolerance"), cases("fade_responsiveness_purity"))
def test_responsiveness_and_purity(case, tolerance):
    """Guards against ratings of 1 in a class; without a class ours is undefined where the
    reference fails."""
    inputs, wanted = case["inputs"], case["expected"]
    got = fade.fade_responsiveness_purity(
        np.array(inputs["natural_activations"]), inputs["ratings"]
    )
    for estimate, name in zip(got, ("responsiveness", "purity"), strict=True):
        assert same(estimate, wanted.get(name), tolerance), name


@pytest.mark.parametrize(("case", "tolerance"), cases("fade_faithfulness"))
def test_faithfulness(case, tolerance):
    """Guards against gains that are not relative to the room above the baseline."""
    by_factor = {g["factor"]: g["ratings"] for g in case["inputs"]["ratings_by_factor"]}
    wanted = case["expected"]
    if "error" in wanted:
        with pytest.raises(ValueError, match="baseline"):
            fade.fade_faithfulness(by_factor)
        return
    value, factor = fade.fade_faithfulness(by_factor)
    assert same(value, wanted["faithfulness"], tolerance)
    assert factor == wanted["max_modification_factor"]
    for row in wanted["concept_fraction"]:
        assert same(fade.fade_fractions(by_factor)[row["factor"]], row["fraction"], tolerance)
