"""From encoded texts to probe results (method, sections 1 and 4.4). Pure code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saexplain.activation.v1 import activation_pb2
from saexplain.agent.v1 import agent_pb2
from saexplain.common.v1 import experiment_pb2, feature_pb2, window_pb2
from saexplain.explanation.v1 import dossier_pb2
from services.common.names import FeatureRef, parse_feature
from services.common.outcomes import OutcomeThresholds, classify
from services.common.tensors import from_tensor
from services.orchestrator.evidence import cut_around_peak
from services.orchestrator.verdicts import passes

ABSORBING_COSINE = 0.3
"""Decoder neighbours above this cosine may have absorbed a silent positive."""

MOST_ABSORBING = 15

CEILING_TOKENS_EACH_SIDE = 5
"""Exemplars are cut to the length of a probe: so many tokens around the peak."""


def outcome_thresholds(thresholds: dossier_pb2.Thresholds) -> OutcomeThresholds:
    """The plan's thresholds in the shape that `classify` takes."""
    return OutcomeThresholds(
        active_share=thresholds.active_share,
        silent_share=thresholds.silent_share,
        ambiguity_share=thresholds.ambiguity_share,
    )


def measured_features(facts: feature_pb2.FeatureFacts) -> list[FeatureRef]:
    """The feature, then those that may have absorbed parts of it, nearest first."""
    neighbors = [n.feature for n in facts.neighbors if n.cosine > ABSORBING_COSINE]
    return [parse_feature(name, "feature") for name in (facts.feature, *neighbors[:MOST_ABSORBING])]


def ceiling_inputs(windows: Sequence[window_pb2.Window]) -> list[activation_pb2.TextInput]:
    """The exemplars cut to the length of a probe, as the exact tokens."""
    return [
        activation_pb2.TextInput(
            token_ids=activation_pb2.TokenIds(
                ids=cut_around_peak(window, CEILING_TOKENS_EACH_SIDE).token_ids
            )
        )
        for window in windows
    ]


def scored_values(encoded: activation_pb2.EncodedText) -> NDArray[np.float32]:
    """Values at scored tokens, float32, shape [scored tokens, features]; may be empty."""
    values: NDArray[Any] = from_tensor(encoded.activations, "activations")
    return values[encoded.scored_begin :].astype(np.float32, copy=False)


def probe_result(
    probe: experiment_pb2.Probe,
    encoded: activation_pb2.EncodedText | None,
    facts: feature_pb2.FeatureFacts,
    thresholds: OutcomeThresholds,
    features: Sequence[FeatureRef],
) -> experiment_pb2.ProbeResult:
    """The verdict on one probe. A text that could not be measured, or holds no scored
    token, is INVALID: it counts on no side.

    Args:
        encoded: the probe's text, None where it could not be encoded.
        features: the measured features; the first one is the one under test.
    """
    result = experiment_pb2.ProbeResult(probe=probe, outcome=experiment_pb2.PROBE_OUTCOME_INVALID)
    if encoded is None:
        return result
    result.tokens.CopyFrom(encoded.tokens)
    values = scored_values(encoded)
    if not len(values):
        return result
    own = values[:, 0]
    result.activations.extend([0.0] * encoded.scored_begin)
    result.activations.extend(own.tolist())
    peak = int(own.argmax())
    result.peak_index = encoded.scored_begin + peak
    result.max_activation = float(own[peak])
    result.outcome = classify(result.max_activation, facts.reference_max, thresholds)
    result.passed = passes(probe.predicted_active, result.outcome)
    if probe.predicted_active and result.outcome == experiment_pb2.PROBE_OUTCOME_SILENT:
        result.absorbed_by = _absorber(values, features, thresholds, facts.reference_max)
    return result


def _absorber(
    values: NDArray[np.float32],
    features: Sequence[FeatureRef],
    thresholds: OutcomeThresholds,
    reference_max: float,
) -> str:
    """The neighbour that fires most, if it is not silent itself by our own unit: decoder
    rows have similar norms, so that activations of neighbours compare."""
    if values.shape[1] < 2:
        return ""
    strongest = values[:, 1:].max(axis=0)
    best = int(strongest.argmax())
    fires = float(strongest[best]) >= thresholds.silent_share * reference_max
    return features[1 + best].name if fires else ""


def ceiling(
    encoded: Mapping[int, activation_pb2.EncodedText],
    reference_max: float,
    thresholds: OutcomeThresholds,
) -> agent_pb2.Ceiling | None:
    """Share of cut exemplars that are still ACTIVE; None where none could be measured."""
    outcomes = []
    for _, text in sorted(encoded.items()):
        values = scored_values(text)
        if len(values):
            outcomes.append(classify(float(values[:, 0].max()), reference_max, thresholds))
    if not outcomes:
        return None
    active = sum(outcome == experiment_pb2.PROBE_OUTCOME_ACTIVE for outcome in outcomes)
    return agent_pb2.Ceiling(
        active_share=active / len(outcomes),
        exemplar_count=len(outcomes),
        tokens_each_side=CEILING_TOKENS_EACH_SIDE,
    )
