"""What a decoder row adds to the logits, per unit of activation.

A row is carried to the residual stream (the heads' output projection for ``hook_z``, the MLP's
for its hidden layer, a post-norm's weight where the family has one), then through the final norm
to the unembedding. A norm divides by a length that depends on the rest of the stream and is the
same for all tokens of the vocabulary; it is left out, so that logits are true up to one positive
factor per position. The norm's weight is folded in (Gemma's is 1 + w), its bias cancels, a layer
norm's subtraction of the mean is kept. The mean over the vocabulary is not subtracted: it moves
all logits of a row alike, which neither ranks nor the softmax notice. Gemma's soft cap is monotone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from services.activation.encoder.families import NormKind, submodule
from services.activation.encoder.hooks import HookPoint, Site
from services.activation.encoder.model import CutModel
from services.activation.encoder.sae import Sae
from services.common.errors import Unimplemented

_IN_RESIDUAL = frozenset(
    {
        Site.EMBEDDING,
        Site.RESIDUAL_PRE,
        Site.RESIDUAL_MID,
        Site.RESIDUAL_POST,
        Site.MLP_IN_RESIDUAL,
        Site.ATTENTION_OUT,
        Site.MLP_OUT,
    }
)
_RMS_INPUT = 1e3
"""Large enough that a norm's epsilon does not show."""


@torch.inference_mode()
def logit_directions(
    model: CutModel, sae: Sae, features: Sequence[int] | None = None
) -> Float[Tensor, "features d_model"]:
    """Per feature the vector whose product with a row of the unembedding is its logit.

    Args:
        model: The language model.
        sae: The SAE.
        features: Which features; all of them by default.

    Raises:
        Unimplemented: UNSUPPORTED, the SAE writes where nothing reaches the residual stream.
    """
    decoder = sae.weights["W_dec"].float()
    rows = _to_residual(model, sae, decoder if features is None else decoder[list(features)])
    if rows.shape[1] != model.hidden_size:
        raise Unimplemented(
            f"decoder rows have {rows.shape[1]} entries, the residual stream {model.hidden_size}"
        )
    if model.family.norm is NormKind.LAYER:
        rows = rows - rows.mean(dim=-1, keepdim=True)
    return rows * _gain(model, submodule(model.base, model.family.final_norm), model.hidden_size)


def unembedding(model: CutModel) -> Float[Tensor, "vocabulary d_model"]:
    """Rows of the output head; the input embedding where they are tied."""
    head: Any = model.model.get_output_embeddings()  # type: ignore[operator]
    weight: Tensor = head.weight
    return weight


def _to_residual(model: CutModel, sae: Sae, rows: Tensor) -> Tensor:
    where, family = sae.config.hook_out or sae.config.hook, model.family
    if where.site in _IN_RESIDUAL:
        return rows
    if where.site is Site.ATTENTION_HEADS:
        projection, post_norm = family.attention_projection, family.attention_post_norm
    elif where.site is Site.MLP_HIDDEN:
        projection, post_norm = family.mlp_projection, family.mlp_post_norm
    elif where.site is Site.MLP_MODULE_OUT:
        projection, post_norm = "", family.mlp_post_norm
    else:
        raise Unimplemented(f"what {where} holds is not added to the residual stream")
    block = model.blocks[where.layer]
    if projection:
        rows = rows @ _written(submodule(block, projection), sae, where)
    if post_norm is not None:
        rows = rows * _gain(model, submodule(block, post_norm), model.hidden_size)
    return rows


def _written(module: Any, sae: Sae, where: HookPoint) -> Float[Tensor, "inputs d_model"]:
    """A projection's weight, inputs first; only one head's inputs where the SAE reads one."""
    weight: Tensor = module.weight.T if isinstance(module, nn.Linear) else module.weight
    head, width = sae.config.head_index, sae.weights["W_dec"].shape[1]
    if head is not None:
        weight = weight[head * width : (head + 1) * width]
    if weight.shape[0] != width:
        raise Unimplemented(
            f"decoder rows have {width} entries, the projection behind {where} {weight.shape[0]}"
        )
    return weight.float()


def _gain(model: CutModel, norm: Any, width: int) -> Float[Tensor, " width"]:
    """What a norm multiplies each entry with, found by asking it."""
    if model.family.norm is NormKind.LAYER:
        gain: Tensor = norm.weight
        return gain.float()
    probe = torch.full((1, width), _RMS_INPUT, device=model.device, dtype=model.embedding.dtype)
    measured: Tensor = norm(probe)[0]
    return measured.float()
