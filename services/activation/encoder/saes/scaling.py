"""Input normalisations by one number, folded into the weights once.

``expected_average_only_in`` scales inputs so that their expected length is ``sqrt(d_in)``. The
factor is a property of the training data; SAELens folds it before it saves, and keeps it beside
the weights of checkpoints that were not finished. Without the factor values would be off by it,
so such an SAE is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from services.activation.encoder.saes.config import SaeConfig
from services.common.errors import FailedPrecondition, Unimplemented

SCALER_FILE = "activation_scaler.json"
"""SAELens' file beside an unfinished checkpoint; ``scaling_factor`` is the number."""
_FACTOR_SETTING = "activation_normalization_factor"
SCALED = ("expected_average_only_in", "constant_scalar_rescale")


def fold(
    config: SaeConfig, weights: Mapping[str, Tensor], factor: float | None
) -> dict[str, Tensor]:
    """Weights for inputs that were not scaled, as SAELens folds them.

    Raises:
        Unimplemented: UNSUPPORTED where the configuration asks for a factor and there is none.
    """
    if config.normalize_activations not in SCALED:
        return dict(weights)
    if factor is None:
        raise Unimplemented(
            f"normalize_activations={config.normalize_activations!r} needs the factor that inputs "
            f"are scaled by: scaling_factor in {SCALER_FILE} beside the weights, or "
            f"{_FACTOR_SETTING} in cfg.json",
            metadata={"normalize_activations": config.normalize_activations},
        )
    folded = dict(weights)
    for name, scale in (("W_enc", factor), ("W_dec", 1 / factor), ("b_dec", 1 / factor)):
        if name in folded:
            folded[name] = folded[name] * scale
    if "topk_threshold" in folded and config.rescale_acts_by_decoder_norm:
        folded["topk_threshold"] = folded["topk_threshold"] / factor
    return folded


def scaling_factor(raw: Mapping[str, Any], folder: Path | None) -> float | None:
    """The factor that a configuration or the file beside the weights names.

    Raises:
        FailedPrecondition: ARTIFACT_CORRUPT where it is not a number above 0.
    """
    value = raw.get(_FACTOR_SETTING)
    path = folder / SCALER_FILE if folder else None
    if value is None and path is not None and path.is_file():
        try:
            value = json.loads(path.read_text())["scaling_factor"]
        except (ValueError, KeyError, TypeError) as error:
            raise _garbled(f"{path}: {error!r}") from error
    if value is None:
        return None
    if not isinstance(value, int | float) or not (math.isfinite(value) and value > 0):
        raise _garbled(f"scaling factor {value!r} is not a number above 0")
    return float(value)


def _garbled(message: str) -> FailedPrecondition:
    return FailedPrecondition(message, reason="ARTIFACT_CORRUPT")
