"""Every family, place and kind of SAE, against TransformerLens and SAELens on the same weights.

Load-bearing: ``test_every_family_reads_every_place``. The references run each row alone and
unpadded, in an implementation of their own; ours run in one padded batch. The full cross product
is ``python -m benchmarks.exactness``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    MistralConfig,
)

from benchmarks.exactness.compare import compare
from benchmarks.exactness.families import configurations
from benchmarks.exactness.references import Values
from benchmarks.exactness.run import LAYER, FamilyRun
from benchmarks.exactness.saes import KINDS, Kind
from services.activation.encoder.families import family_of
from services.activation.encoder.hooks import HookPoint, Site, parse_hook
from services.activation.encoder.model import load_model, pad_rows
from services.activation.encoder.sources import ModelSource
from services.common.errors import Unimplemented

FAMILIES = sorted(configurations())
PARALLEL = {"gpt_neox", "phi"}
STANDARD = Kind("standard")


@pytest.fixture(scope="module", params=FAMILIES)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FamilyRun:
    name = str(request.param)
    return FamilyRun(name, configurations()[name], tmp_path_factory.mktemp(name))


def kinds() -> Iterator[Kind]:
    """Kinds in turn, so that the places of a family together cover them."""
    while True:
        yield from KINDS


def test_every_family_reads_every_place(run: FamilyRun) -> None:
    """Guards against a hook that reads a neighbour of the tensor it names."""
    expected = set(Site) - ({Site.RESIDUAL_MID} if run.family in PARALLEL else set())
    assert set(run.sites) == expected
    for site, kind in zip(run.sites, kinds(), strict=False):
        result = run.check(site, kind)
        assert result.difference.within, result
        assert result.difference.active > 100


def test_centred_weights_are_emulated_where_transformer_lens_centres(run: FamilyRun) -> None:
    """Guards against subtracting the mean from models that TransformerLens leaves alone."""
    for site in (Site.RESIDUAL_POST, Site.MLP_OUT, Site.MLP_HIDDEN):
        result = run.check(site, STANDARD, centred=True)
        assert result.difference.within, result


def test_a_padded_batch_equals_rows_run_alone(run: FamilyRun) -> None:
    """Guards against padding that reaches a token, through attention or through positions."""
    hook = HookPoint(LAYER, Site.RESIDUAL_POST)
    padded = run.model.hidden_states(pad_rows(run.rows), hook)
    for row, states in zip(run.rows, padded, strict=True):
        alone = run.model.hidden_states(torch.from_numpy(row)[None], hook)[0]
        torch.testing.assert_close(states[: len(row)], alone, rtol=1e-4, atol=1e-4)


def test_parallel_blocks_have_no_residual_between(run: FamilyRun) -> None:
    if run.family not in PARALLEL:
        return
    with pytest.raises(Unimplemented, match="hook_resid_mid"):
        run.model.width(HookPoint(LAYER, Site.RESIDUAL_MID))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_of_sae_reads_a_batch(kind: Kind, llama: FamilyRun) -> None:
    """Guards against a kind whose values depend on the batch or on the device they run on."""
    result = llama.check(Site.RESIDUAL_POST, kind)
    assert result.difference.within, result


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> FamilyRun:
    return FamilyRun("llama", configurations()["llama"], tmp_path_factory.mktemp("one"))


def test_the_comparison_sees_a_wrong_place(llama: FamilyRun) -> None:
    """A negative control: the tensor next door must not pass."""
    states = llama.states
    right, wrong = (states.flat(f"blocks.{layer}.hook_resid_post").numpy() for layer in (1, 0))
    zero = np.zeros_like(right)
    off = compare(Values(wrong, np.maximum(wrong, zero)), Values(right, np.maximum(right, zero)))
    assert not off.within
    assert off.flips_outside > 100
    nearly = right * (1 + 3e-4)
    assert not compare(Values(nearly, right), Values(right, right)).within


def test_an_unknown_family_is_refused_by_name(tmp_path: Path) -> None:
    """Guards against a guess at the modules of a model that was never compared."""
    from transformers import GPTJConfig

    GPTJConfig(n_layer=2, n_embd=8, n_head=2).save_pretrained(tmp_path)
    with pytest.raises(Unimplemented, match=r"gptj.*llama"):
        load_model(ModelSource(str(tmp_path)), 1)


def test_a_model_whose_rows_do_not_stand_alone_is_refused() -> None:
    """Guards against padding that reaches a token from behind."""
    for name, config in {
        "use_bidirectional_attention": Gemma3TextConfig(use_bidirectional_attention=True),
        "longrope": MistralConfig(
            rope_parameters={
                "rope_type": "longrope",
                "rope_theta": 10_000.0,
                "original_max_position_embeddings": 64,
                "short_factor": [1.0] * 64,
                "long_factor": [2.0] * 64,
            }
        ),
    }.items():
        with pytest.raises(Unimplemented, match=name):
            family_of(config)


def test_the_language_model_beside_a_vision_tower_is_found(tmp_path: Path) -> None:
    """Guards against Gemma 3 of 4B and more, whose language model lies one module deeper."""
    text = configurations()["gemma3_text"].to_dict()
    vision = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    tower = {**vision, "num_attention_heads": 1, "image_size": 28, "patch_size": 14}
    torch.manual_seed(0)
    whole = Gemma3ForConditionalGeneration(Gemma3Config(text_config=text, vision_config=tower))
    whole.eval().save_pretrained(tmp_path)
    model = load_model(ModelSource(str(tmp_path)), LAYER + 1)
    assert model.layer_count == LAYER + 1
    ids = torch.arange(2, 40)[None]
    with torch.no_grad():
        expected = whole(ids, output_hidden_states=True).hidden_states[LAYER + 1]
    states = model.hidden_states(ids, HookPoint(LAYER, Site.RESIDUAL_POST))
    torch.testing.assert_close(states, expected, rtol=1e-4, atol=1e-4)


def test_several_places_come_from_one_pass(run: FamilyRun) -> None:
    ids = torch.from_numpy(run.rows[1])[None]
    hooks = [parse_hook(f"blocks.{LAYER}.{site}") for site in ("hook_resid_post", "attn.hook_z")]
    together = run.model.hidden_states_at(ids, [*hooks, HookPoint(0, Site.EMBEDDING)])
    assert len(together) == 3
    assert torch.equal(together[hooks[0]], run.model.hidden_states(ids, hooks[0]))
