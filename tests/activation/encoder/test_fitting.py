"""An SAE is put on a model that it fits, or the reason why not is said."""

from __future__ import annotations

import pytest

from services.activation.encoder.fitting import fit
from services.activation.encoder.hooks import HookPoint, Site
from services.activation.encoder.model import CutModel
from services.activation.encoder.sae import Sae
from services.activation.encoder.tokenizer import TextTokenizer
from services.common.errors import FailedPrecondition
from tests.activation import tiny


def test_an_sae_that_fits_is_left_as_it_is(
    sae: Sae, model: CutModel, tokenizer: TextTokenizer
) -> None:
    assert fit(sae, model, tokenizer) is sae


def test_an_sae_of_another_width_is_refused(
    sae: Sae, model: CutModel, tokenizer: TextTokenizer
) -> None:
    """Guards against an SAE of another model that fails, or does not, in the matrix product."""
    inside = sae.with_config(hook=HookPoint(1, Site.MLP_HIDDEN))
    with pytest.raises(FailedPrecondition, match=f"length {tiny.D_MODEL}.*the model has 64"):
        fit(inside, model, tokenizer)
    heads = sae.with_config(hook=HookPoint(1, Site.ATTENTION_HEADS), head_index=1)
    with pytest.raises(FailedPrecondition, match="head 1"):
        fit(heads, model, tokenizer)
    with pytest.raises(FailedPrecondition, match="block 7"):
        fit(sae.with_config(hook=HookPoint(7, Site.RESIDUAL_POST)), model, tokenizer)


def test_only_models_with_layer_norm_are_centred_by_metadata(
    sae: Sae, model: CutModel, tokenizer: TextTokenizer
) -> None:
    """TransformerLens leaves RMSNorm models alone; the registry's word is obeyed all the same."""
    centred = sae.with_config(center_input=True)
    assert not fit(centred, model, tokenizer).config.center_input
    assert fit(centred, model, tokenizer, center_input=True).config.center_input


def test_special_tokens_are_those_of_the_models_tokenizer(
    sae: Sae, model: CutModel, tokenizer: TextTokenizer
) -> None:
    excluding = sae.with_config(exclude_special_tokens=True, excluded_token_ids=(9,))
    fitted = fit(excluding, model, tokenizer)
    assert fitted.config.silent_token_ids == (9, tokenizer.bos_token_id)
    with pytest.raises(FailedPrecondition, match="400"):
        fit(sae.with_config(excluded_token_ids=(400,)), model, tokenizer)
