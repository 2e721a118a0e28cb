"""SAEBench's autointerp evaluation on the committed vectors."""

from __future__ import annotations

import numpy as np
import pytest

from services.scorer.statistics.published import saebench
from tests.parity.vectors import cases, same


@pytest.mark.parametrize(("case", "tolerance"), cases("saebench_iw_probabilities"))
def test_importance_weights(case, tolerance):
    """Guards against weights over the whole width, and unsquared ones."""
    inputs, wanted = case["inputs"], case["expected"]
    call = (np.array(inputs["acts"]), inputs["buffer"], inputs["use_squared_values"])
    if "error" in wanted:
        with pytest.raises(ValueError, match="nothing to draw"):
            saebench.saebench_probabilities(*call)
        return
    got = saebench.saebench_probabilities(*call)
    assert got == pytest.approx(np.array(wanted["probabilities"]), abs=tolerance["abs"])
    assert inputs["buffer"] == wanted["first_column"]


@pytest.mark.parametrize(("case", "tolerance"), cases("saebench_top_k_indices"))
def test_top_positions(case, tolerance):
    """Guards against suppression in other rows, and a buffer of 0 taken for none."""
    inputs = case["inputs"]
    acts = np.array(inputs["acts"])
    if "error" in case["expected"]:
        assert inputs["buffer"] == 0 and inputs["no_overlap"]
        assert saebench.saebench_top(acts, inputs["k"], 0, True) == []
        return
    got = saebench.saebench_top(acts, inputs["k"], inputs["buffer"], inputs["no_overlap"])
    assert [list(cell) for cell in got] == case["expected"]["row_col"]


@pytest.mark.parametrize(("case", "tolerance"), cases("saebench_parse_predictions"))
def test_numbers_of_a_reply(case, tolerance):
    """Guards against an empty reply taken for a failure, and half of one taken as an
    answer."""
    reply, wanted = case["inputs"]["reply"], case["expected"]
    if "error" in wanted:
        with pytest.raises(ValueError, match="invalid literal"):
            saebench.saebench_predictions(reply)
        return
    assert saebench.saebench_predictions(reply) == wanted["predictions"]


@pytest.mark.parametrize(("case", "tolerance"), cases("saebench_score_predictions"))
def test_share_correct(case, tolerance):
    """Guards against balanced accuracy under this name, and >= for >."""
    inputs, wanted = case["inputs"], case["expected"]
    active = saebench.saebench_active(
        [np.array(a) for a in inputs["acts"]], inputs["act_threshold"]
    )
    got = saebench.saebench_score(active, inputs["predictions"])
    if "error" in wanted:
        assert got.value is None
        return
    assert active.tolist() == wanted["is_active"]
    assert same(got, wanted["score"], tolerance)
