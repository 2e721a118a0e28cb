"""Methods that are known and cannot be run here: they need to intervene on the model, or
more than one explanation."""

from __future__ import annotations

from saexplain.scorer.v1.scorer_pb2 import Method

_REASON = "needs to steer the model, which the activation service does not offer"

UNAVAILABLE = {
    "faithfulness": Method(
        name="faithfulness",
        version="1",
        description="Steers the model with the feature and looks for what was explained.",
        unavailable_reason=_REASON,
    ),
    "output": Method(
        name="output",
        version="1",
        description="Compares the explained effect on the output with the measured one.",
        unavailable_reason=_REASON,
    ),
    "stability": Method(
        name="stability",
        version="1",
        description="Compares explanations that were made from resampled evidence.",
        unavailable_reason="needs explanations from resampled evidence, and a run makes one",
    ),
}
