"""OpenAI's automated-interpretability scores on the committed vectors, as far as statistics
go."""

from __future__ import annotations

import numpy as np
import pytest

from services.scorer.statistics import expected, scale
from services.scorer.statistics.correlation import (
    absolute_deviation_explained,
    fit_line,
    pearson,
    uncentred_r2,
)
from tests.parity.vectors import cases, same

SCORES = {
    "ev_correlation_score": pearson,
    "rsquared_score": uncentred_r2,
    "absolute_dev_explained_score": absolute_deviation_explained,
}


def check(predicted: list, actual: list, wanted: dict, tolerance: dict) -> None:
    """Per sequence and over the concatenation of all."""
    p, t = ([np.array(s, np.float64) for s in side] for side in (predicted, actual))
    pooled = np.concatenate([*p, []]), np.concatenate([*t, []])
    for one, sequence in zip([*zip(p, t, strict=True)], wanted["sequences"], strict=True):
        for name, score in SCORES.items():
            assert same(score(*one), sequence[name], tolerance), name
    for name, score in SCORES.items():
        assert same(score(*pooled), wanted[name], tolerance), name


@pytest.mark.parametrize(("case", "tolerance"), cases("openai_simulation_score"))
def test_simulation_scores(case, tolerance):
    """Guards against a centred R2, averages over sequences, and residues of constants."""
    sequences = case["inputs"]["sequences"]
    check(
        [s["predicted"] for s in sequences],
        [s["true"] for s in sequences],
        case["expected"],
        tolerance,
    )


@pytest.mark.parametrize(("case", "tolerance"), cases("openai_linear_calibration"))
def test_linear_calibration(case, tolerance):
    """Guards against a line fitted on the data it is scored on, and clipping."""
    fitted, wanted = case["inputs"]["calibration"], case["expected"]
    predicted = np.concatenate([[], *(s["predicted"] for s in fitted)])
    actual = np.concatenate([[], *(s["true"] for s in fitted)])
    if "error" in wanted:
        with pytest.raises(ValueError, match="no values"):
            fit_line(predicted, actual)
        return
    slope, intercept = fit_line(predicted, actual)
    assert same(slope, wanted["slope"], tolerance)
    assert same(intercept, wanted["intercept"], tolerance)
    test = case["inputs"]["test"]
    calibrated = [slope * np.array(s["predicted"]) + intercept for s in test]
    for got, expected_values in zip(calibrated, wanted["calibrated"], strict=True):
        assert got.tolist() == pytest.approx(expected_values, abs=1e-8, rel=1e-8)
    check(calibrated, [s["true"] for s in test], wanted, tolerance)


@pytest.mark.parametrize(("case", "tolerance"), cases("openai_expected_activation"))
def test_expected_activation_of_exact_digits(case, tolerance):
    """Guards against other spellings, and a NaN for probabilities that underflow."""
    wanted = case["expected"]
    probabilities = expected.exact_digits(case["inputs"]["top_logprobs"].items())
    named = {str(k): p for k, p in probabilities.items()}
    assert named == pytest.approx(wanted["unnormalised"], abs=1e-9)
    got = expected.expected_value(probabilities)
    # "No number" is 0.0 there and undefined here.
    assert same(got, wanted["expected_value"] if probabilities else None, tolerance)


@pytest.mark.parametrize(("case", "tolerance"), cases("openai_normalize_activations"))
def test_floored_scale(case, tolerance):
    """Guards against rounding, and 10 * (x / max), which floors to another integer."""
    records = [np.array(r, np.float64) for r in case["inputs"]["records"]]
    given, wanted = case["inputs"]["max_activation"], case["expected"]
    maximum = given if given is not None else max(float(np.maximum(r, 0).max()) for r in records)
    assert maximum == pytest.approx(wanted["max_activation"], abs=1e-12)
    assert [scale.floor_scale(r, maximum).tolist() for r in records] == wanted["normalized"]
