"""Puts an SAE and a language model together, or says why they do not belong together."""

from __future__ import annotations

from typing import Any

from services.activation.encoder.families import NormKind
from services.activation.encoder.model import CutModel
from services.activation.encoder.saes.base import Sae
from services.activation.encoder.tokenizer import TextTokenizer
from services.common.errors import FailedPrecondition


def fit(
    sae: Sae, model: CutModel, tokenizer: TextTokenizer, *, center_input: bool | None = None
) -> Sae:
    """The SAE as it has to be run on this model.

    Two settings depend on the model. ``center_writing_weights`` centres only models with
    LayerNorm, TransformerLens skips the others, because RMSNorm does see the mean. And
    ``exclude_special_tokens`` means the special tokens of this tokenizer.

    Args:
        sae: As its own files describe it.
        model: At least as deep as the SAE's hook.
        tokenizer: The model's.
        center_input: The registry's word on centring, which outranks the metadata's.

    Raises:
        FailedPrecondition: STATE_CONFLICT where the SAE reads vectors of another length.
        Unimplemented: UNSUPPORTED where the model's family has no such place.
    """
    config = sae.config
    changes: dict[str, Any] = {}
    _check_width(sae, model)
    if center_input is None and config.center_input and model.family.norm is not NormKind.LAYER:
        changes["center_input"] = False
    if config.exclude_special_tokens:
        changes["special_token_ids"] = tokenizer.special_token_ids
    for token_id in config.excluded_token_ids:
        if not 0 <= token_id < model.vocabulary_size:
            raise FailedPrecondition(
                f"excluded token {token_id} is not in the model's vocabulary",
                reason="STATE_CONFLICT",
            )
    return sae.with_config(**changes) if changes else sae


def _check_width(sae: Sae, model: CutModel) -> None:
    config, width = sae.config, model.width(sae.config.hook)
    if config.head_index is None:
        fits = config.d_in == width
    else:
        fits = config.head_index >= 0 and (config.head_index + 1) * config.d_in <= width
    if not fits:
        head = "" if config.head_index is None else f" of head {config.head_index}"
        raise FailedPrecondition(
            f"the SAE reads vectors{head} of length {config.d_in} at {config.hook}, "
            f"the model has {width} there",
            metadata={"hook": str(config.hook), "d_in": str(config.d_in), "width": str(width)},
            reason="STATE_CONFLICT",
        )
