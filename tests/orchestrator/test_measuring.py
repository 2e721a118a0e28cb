"""From encoded texts to outcomes; the expected verdicts are read off the numbers."""

from __future__ import annotations

import numpy as np
import pytest

from saexplain.activation.v1 import activation_pb2
from saexplain.common.v1 import experiment_pb2 as e
from saexplain.common.v1 import feature_pb2, text_pb2
from services.common.names import FeatureRef
from services.common.outcomes import OutcomeThresholds
from services.common.tensors import to_tensor
from services.orchestrator import measuring

FACTS = feature_pb2.FeatureFacts(
    feature="saes/t/features/0",
    reference_max=10.0,
    neighbors=[
        feature_pb2.FeatureNeighbor(feature="saes/t/features/4", cosine=0.6),
        feature_pb2.FeatureNeighbor(feature="saes/t/features/5", cosine=0.2),
    ],
)
FEATURES = [FeatureRef("t", 0), FeatureRef("t", 4)]


def encoded(rows: list[list[float]], scored_begin: int = 0) -> activation_pb2.EncodedText:
    """A text with these values, one row per token."""
    return activation_pb2.EncodedText(
        tokens=text_pb2.TokenSpan(token_ids=range(len(rows))),
        activations=to_tensor(np.array(rows, dtype=np.float32).reshape(len(rows), 2)),
        scored_begin=scored_begin,
    )


def outcome(
    text: activation_pb2.EncodedText | None, *, predicted_active: bool = True
) -> e.ProbeResult:
    """The result of one probe."""
    probe = e.Probe(id="p1.0", predicted_active=predicted_active)
    return measuring.probe_result(probe, text, FACTS, OutcomeThresholds(), FEATURES)


@pytest.mark.parametrize(
    ("peak", "verdict"),
    [
        (5.1, e.PROBE_OUTCOME_ACTIVE),
        (5.0004, e.PROBE_OUTCOME_AMBIGUOUS),
        (4.9, e.PROBE_OUTCOME_WEAK),
        (0.9, e.PROBE_OUTCOME_SILENT),
    ],
)
def test_outcomes_follow_the_reference_maximum(
    peak: float, verdict: e.ProbeOutcome.ValueType
) -> None:
    """Guards against absolute thresholds."""
    result = outcome(encoded([[0, 0], [peak, 0]]))
    assert result.outcome == verdict
    assert result.peak_index == 1
    assert list(result.activations) == pytest.approx([0, peak])


def test_positions_that_are_not_scored_do_not_count() -> None:
    """Guards against the attention sink standing in for the feature."""
    result = outcome(encoded([[9, 0], [1, 0]], scored_begin=1))
    assert result.max_activation == 1.0
    assert list(result.activations) == [0.0, 1.0]


def test_a_text_that_could_not_be_measured_is_invalid() -> None:
    """Guards against a missing measurement that reads as silence."""
    assert outcome(None).outcome == e.PROBE_OUTCOME_INVALID
    unscored = outcome(encoded([[9, 0]], scored_begin=1))
    assert unscored.outcome == e.PROBE_OUTCOME_INVALID
    assert not unscored.passed


def test_a_silent_positive_names_the_neighbour_that_fires() -> None:
    """ABSORBED: only for positives, only for silence, only by one that fires."""
    assert outcome(encoded([[0, 7]])).absorbed_by == "saes/t/features/4"
    assert outcome(encoded([[0, 0.5]])).absorbed_by == ""
    assert outcome(encoded([[8, 7]])).absorbed_by == ""
    assert outcome(encoded([[0, 7]]), predicted_active=False).absorbed_by == ""


def test_only_near_neighbours_are_measured() -> None:
    """Neighbours at a cosine of 0.3 or less absorb nothing."""
    assert measuring.measured_features(FACTS) == FEATURES


def test_the_ceiling_is_the_share_of_cut_exemplars_that_stay_active() -> None:
    """By hand: active, weak, without a scored token: 1 of the 2 that were measured."""
    texts = {
        3: encoded([[9, 0]]),
        4: encoded([[3, 0]]),
        5: encoded([[9, 0]], scored_begin=1),
    }
    ceiling = measuring.ceiling(texts, 10.0, OutcomeThresholds())
    assert ceiling is not None
    assert (ceiling.active_share, ceiling.exemplar_count) == (0.5, 2)
    assert ceiling.tokens_each_side == measuring.CEILING_TOKENS_EACH_SIDE
    assert measuring.ceiling({}, 10.0, OutcomeThresholds()) is None
