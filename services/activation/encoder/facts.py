"""What the weights alone say about a feature: no text is run.

Decoder norm, features that point the same way, output tokens that the decoder direction promotes
and suppresses, and tokens that lie close to each other in the input embedding.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from services.activation.encoder.fact_records import FeatureFacts, Scored
from services.activation.encoder.model import CutModel
from services.activation.encoder.readout import logit_directions, unembedding
from services.activation.encoder.sae import Sae
from services.common.errors import InvalidArgument, Unimplemented


def feature_facts(
    model: CutModel,
    sae: Sae,
    feature: int,
    *,
    vocabulary_size: int,
    neighbor_count: int = 10,
    token_count: int = 10,
) -> FeatureFacts:
    """Facts of one feature.

    Args:
        model: The language model.
        sae: The SAE.
        feature: Its feature.
        vocabulary_size: Tokens that the tokenizer knows; rows of the unembedding beyond them are
            padding and left out.
        neighbor_count: Features to list.
        token_count: Output tokens to list at either end.

    Logits are per unit of activation; see :mod:`services.activation.encoder.readout`.

    Raises:
        InvalidArgument: FEATURE_OUT_OF_RANGE.
    """
    sae.check_features(torch.tensor([feature]))
    cosines = _cosines(sae.weights["W_dec"], feature)
    facts = FeatureFacts(
        feature=feature,
        decoder_norm=float(sae.decoder_norms[feature]),
        nearest_features=_largest(cosines, neighbor_count, exclude=feature),
        promoted_tokens=(),
        suppressed_tokens=(),
    )
    try:
        direction = logit_directions(model, sae, [feature])[0]
    except Unimplemented as error:
        return replace(facts, tokens_absent_reason=error.message)
    logits = unembedding(model)[:vocabulary_size].float() @ direction
    return replace(
        facts,
        promoted_tokens=_largest(logits, token_count),
        suppressed_tokens=tuple(
            Scored(found.index, -found.score) for found in _largest(-logits, token_count)
        ),
    )


def decoder_cosines(sae: Sae, feature: int) -> NDArray[np.float32]:
    """[features] cosine of every decoder row with that of ``feature``.

    Raises:
        InvalidArgument: FEATURE_OUT_OF_RANGE.
    """
    sae.check_features(torch.tensor([feature]))
    cosines: NDArray[np.float32] = _cosines(sae.weights["W_dec"], feature).cpu().numpy()
    return cosines


def token_cosines(model: CutModel, token_id: int) -> NDArray[np.float32]:
    """[vocabulary] cosine of every input embedding with that of ``token_id``.

    Raises:
        InvalidArgument: FIELD_INVALID.
    """
    if not 0 <= token_id < model.vocabulary_size:
        message = f"token {token_id} is not in [0, {model.vocabulary_size})"
        raise InvalidArgument(message, field="token_id")
    cosines: NDArray[np.float32] = _cosines(model.embedding, token_id).cpu().numpy()
    return cosines


@torch.inference_mode()
def _cosines(rows: Float[Tensor, "rows width"], index: int) -> Float[Tensor, " rows"]:
    lengths = rows.norm(dim=-1).clamp(min=1e-12)
    cosines: Tensor = rows @ normalize(rows[index], dim=0) / lengths
    return cosines


def _largest(
    scores: Float[Tensor, " items"], count: int, exclude: int | None = None
) -> tuple[Scored, ...]:
    """Largest first; equal scores by lower index, so that the order is the same everywhere."""
    wanted = min(count + (exclude is not None), len(scores))
    values, indices = torch.topk(scores, wanted)
    pairs = sorted(zip(values.tolist(), indices.tolist(), strict=True), key=lambda p: (-p[0], p[1]))
    return tuple(Scored(index, value) for value, index in pairs if index != exclude)[:count]
