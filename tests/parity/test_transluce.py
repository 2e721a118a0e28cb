"""Transluce's simulation scores on the committed vectors."""

from __future__ import annotations

import numpy as np
import pytest

from services.scorer.statistics.correlation import pearson
from services.scorer.statistics.published import transluce
from tests.parity.vectors import cases, same

FIELDS = {
    "rsquared_score": transluce.transluce_r2,
    "absolute_dev_explained_score": transluce.transluce_d2,
}


@pytest.mark.parametrize(("case", "tolerance"), cases("transluce_expected_activation"))
def test_expected_activation_of_logits(case, tolerance):
    """Guards against candidates that are left out, and NaN for large logits: there ours is
    right and the reference, which does not subtract the maximum, has no value."""
    wanted = case["expected"]
    distribution, value = transluce.transluce_expected_value(
        np.array(case["inputs"]["logits_0_to_10"])
    )
    assert np.isfinite(value) and 0 <= value <= 10
    if wanted["expected_value"] is None:
        return
    assert same(value, wanted["expected_value"], tolerance)
    assert distribution.tolist() == pytest.approx(wanted["distribution"], abs=1e-9)


@pytest.mark.parametrize(("case", "tolerance"), cases("transluce_r2_d2"))
def test_centred_r2_and_d2(case, tolerance):
    """Guards against OpenAI's uncentred numbers under the same names."""
    actual, predicted = (np.array(case["inputs"][k], np.float64) for k in ("true", "predicted"))
    wanted = case["expected"]
    for name, score in FIELDS.items():
        value = None if isinstance(wanted[name], dict) else wanted[name]
        assert same(score(predicted, actual), value, tolerance), name
    assert same(pearson(predicted, actual), wanted["correlation_score"], tolerance)


@pytest.mark.parametrize(("case", "tolerance"), cases("transluce_simulation_score"))
def test_scores_after_calibration_on_the_same_data(case, tolerance):
    """Guards against a held-out line, per-sequence lines, and the other sign's truth."""
    sequences, wanted = case["inputs"]["sequences"], case["expected"]
    kind = case["inputs"]["exemplar_type"]
    actual = [transluce.transluce_truth(np.array(s["true"]), kind) for s in sequences]
    predicted = [np.array(s["predicted"], np.float64) for s in sequences]
    calibrated = transluce.transluce_calibrated(predicted, actual)
    for p, t, sequence in zip(calibrated, actual, wanted["sequences"], strict=True):
        assert t.tolist() == sequence["true_used"]
        assert p.tolist() == pytest.approx(sequence["calibrated"], abs=1e-8, rel=1e-8)
        check(p, t, sequence, tolerance)
    check(np.concatenate(calibrated), np.concatenate(actual), wanted, tolerance)
    assert wanted["preferred_score"] == wanted["ev_correlation_score"]


def check(predicted: np.ndarray, actual: np.ndarray, wanted: dict, tolerance: dict) -> None:
    for name, score in FIELDS.items():
        assert same(score(predicted, actual), wanted[name], tolerance), name
    assert same(pearson(predicted, actual), wanted["ev_correlation_score"], tolerance)
