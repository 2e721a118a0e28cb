"""The batched encoder gives what a plain Hugging Face run and SAELens give, text by text.

Load-bearing: ``test_batched_rows_equal_single_plain_runs``; its reference shares no code with
the encoder. It guards against padding, cutting or sorting that moves values.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from services.activation.encoder.encode import Encoder, plan_batches
from services.activation.encoder.hooks import HookPoint, Site, parse_hook
from services.activation.encoder.model import CutModel, load_model
from services.activation.encoder.rows import SparseRow
from services.activation.encoder.sae import Sae
from services.activation.encoder.sources import ModelSource
from services.common.errors import (
    Cancelled,
    FailedPrecondition,
    InvalidArgument,
    Unimplemented,
)
from tests.activation import tiny

TOLERANCE = 1e-4


def rows_of(lengths: list[int], seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [np.array([1, *rng.integers(2, 400, length - 1)], dtype=np.int64) for length in lengths]


def plain_hidden(model_folder: Path, row: np.ndarray, state: int) -> torch.Tensor:
    """Hidden states of the uncut model on one row: state n is the input of block n."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval()
    with torch.no_grad():
        output = model(torch.from_numpy(row)[None], output_hidden_states=True)
    return output.hidden_states[state][0]


def test_batched_rows_equal_single_plain_runs(
    encoder: Encoder, sae: Sae, sae_folder: Path, model_folder: Path
) -> None:
    """Guards against a padded batch that differs from single runs."""
    from sae_lens import SAE

    reference = SAE.load_from_disk(sae_folder)
    rows = rows_of([3, 40, 2, 17, 40, 90, 1, 5])
    features = list(range(tiny.D_SAE))
    batched = encoder.encode(sae, rows, features)
    expected = []
    for row in rows:
        hidden = plain_hidden(model_folder, row, 2)
        values = reference.encode(hidden).detach().numpy()
        values[0] = 0.0
        expected.append(values)
    reference_max = np.concatenate(expected).max(axis=0) + 1e-3
    for ours, theirs in zip(batched, expected, strict=True):
        assert ours.dtype == np.float32
        assert np.all(np.abs(ours - theirs) <= TOLERANCE * reference_max)
    assert np.count_nonzero(np.concatenate(expected)) > 500


def test_pre_activations_do_not_depend_on_the_batch(encoder: Encoder, sae: Sae) -> None:
    """Guards against neighbours that move a value beyond the tolerance."""
    rows = rows_of([9, 33, 64, 2, 120], seed=3)
    features = list(range(tiny.D_SAE))
    together = encoder.pre_activations(sae, rows, features)
    band = TOLERANCE * np.abs(np.concatenate(together)).max(axis=0)
    for row, values in zip(rows, together, strict=True):
        alone = encoder.pre_activations(sae, [row], features)[0]
        assert np.all(np.abs(alone - values) <= band)


def test_sparse_rows_hold_the_dense_values(encoder: Encoder, sae: Sae) -> None:
    """Guards against entries that slip to a neighbouring token or row."""
    rows = rows_of([5, 1, 30, 12])
    dense = encoder.encode(sae, rows, list(range(tiny.D_SAE)))
    for sparse, values in zip(encoder.encode_sparse(sae, rows), dense, strict=True):
        rebuilt = np.zeros_like(values)
        tokens = np.repeat(np.arange(len(values)), np.diff(sparse.indptr))
        rebuilt[tokens, sparse.features] = sparse.values
        np.testing.assert_allclose(rebuilt, values, atol=1e-5)
        assert sparse.indptr[1] == 0  # nothing at position 0


def test_position_zero_is_never_scored(encoder: Encoder, sae: Sae) -> None:
    """Guards against the attention sink entering a maximum."""
    values = encoder.encode(sae, rows_of([8]), list(range(tiny.D_SAE)))[0]
    assert not values[0].any()
    assert values[1:].any()


def test_residual_before_a_block_is_that_after_the_one_before(
    model: CutModel, model_folder: Path
) -> None:
    """Guards against hooks that are off by one block."""
    row = rows_of([11])[0]
    ids = torch.from_numpy(row)[None]
    before = model.hidden_states(ids, HookPoint(1, Site.RESIDUAL_PRE))
    after = model.hidden_states(ids, HookPoint(0, Site.RESIDUAL_POST))
    torch.testing.assert_close(before, after)
    torch.testing.assert_close(before[0], plain_hidden(model_folder, row, 1), rtol=1e-4, atol=1e-4)


def test_only_the_blocks_up_to_the_hook_are_loaded(model: CutModel) -> None:
    assert model.layer_count == 2
    with pytest.raises(FailedPrecondition, match="block 2"):
        model.hidden_states(torch.ones(1, 3, dtype=torch.int64), HookPoint(2, Site.RESIDUAL_POST))


def test_a_model_with_too_few_blocks_or_no_folder_is_refused(
    model_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(FailedPrecondition, match="3 blocks"):
        load_model(ModelSource(str(model_folder)), 4)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FailedPrecondition, match="cannot be loaded"):
        load_model(ModelSource(str(tmp_path)), 1)


def test_hook_names_of_sae_lens_transformer_lens_and_hugging_face_are_read() -> None:
    assert parse_hook("blocks.8.hook_resid_post") == HookPoint(8, Site.RESIDUAL_POST)
    assert parse_hook("blocks.0.hook_resid_pre") == HookPoint(0, Site.RESIDUAL_PRE)
    assert parse_hook("model.layers.8") == HookPoint(8, Site.RESIDUAL_POST)
    assert str(parse_hook("transformer.h.3")) == "blocks.3.hook_resid_post"
    assert parse_hook("model.layers.3.self_attn.o_proj.input").site is Site.ATTENTION_HEADS
    assert parse_hook("blocks.4.hook_mlp_out") == HookPoint(4, Site.MLP_OUT)
    for unknown in ("blocks.8.attn.hook_q", "model.layers.8.post_attention_layernorm", "hook_pos"):
        with pytest.raises(Unimplemented, match=re.escape(unknown)):
            parse_hook(unknown)


def test_one_forward_pass_serves_several_hooks(model: CutModel) -> None:
    """Guards against a shared pass that stops before the deepest hook."""
    ids = torch.from_numpy(rows_of([9])[0])[None]
    hooks = [parse_hook(f"blocks.{name}") for name in ("1.hook_mlp_out", "0.attn.hook_z")]
    together = model.hidden_states_at(ids, hooks)
    assert list(together) == hooks[::-1]
    for hook, states in together.items():
        assert torch.equal(states, model.hidden_states(ids, hook))


def test_batches_stay_within_the_budget_and_hold_every_row_once() -> None:
    """Guards against a batch that exceeds memory and against lost rows."""
    lengths = [5, 100, 7, 300, 64, 64, 1]
    batches = plan_batches(lengths, 128)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or sum(lengths[index] for index in batch) <= 128


def test_unacceptable_rows_are_named(encoder: Encoder, sae: Sae) -> None:
    too_long = np.ones(257, dtype=np.int64)
    for row, reason in [
        (np.array([], dtype=np.int64), "TEXT_EMPTY"),
        (np.array([1, 400]), "FIELD_INVALID"),
        (np.array([1, -1]), "FIELD_INVALID"),
        (too_long, "TEXT_TOO_LONG"),
    ]:
        with pytest.raises(InvalidArgument) as caught:
            encoder.encode(sae, [np.array([1, 2]), row], [0])
        assert caught.value.reason == reason
        assert caught.value.violations[0].field == "rows[1]"


def test_a_cancelled_run_stops_between_batches(encoder: Encoder, sae: Sae) -> None:
    asked: list[int] = []

    def cancelled() -> bool:
        asked.append(1)
        return len(asked) > 2

    with pytest.raises(Cancelled):
        encoder.encode_sparse(sae, rows_of([200] * 6), cancelled)
    assert len(asked) == 3


def test_sparse_rows_are_cut_by_threshold_and_by_rank() -> None:
    row = SparseRow(
        np.array([0, 0, 3, 4]), np.array([2, 5, 9, 1], np.int32), np.array([1, 3, 3, 2], np.float32)
    )
    above = row.above(1.5)
    assert above.indptr.tolist() == [0, 0, 2, 3]
    assert above.features.tolist() == [5, 9, 1]
    top = row.top(1)
    assert top.indptr.tolist() == [0, 0, 1, 2]
    assert top.features.tolist() == [5, 1]  # the tie goes to the lower index


def test_tokens_an_sae_was_trained_without_are_silent(encoder: Encoder, sae: Sae) -> None:
    """Guards against values at special tokens that training never saw, dense and sparse alike."""
    (row,) = rows_of([12])
    excluding = sae.with_config(excluded_token_ids=(int(row[3]), int(row[7])))
    (plain,) = encoder.encode(sae, [row], list(range(tiny.D_SAE)))
    assert plain[[3, 7]].any(axis=1).all()
    expected = np.where(np.isin(row, excluding.config.excluded_token_ids)[:, None], 0, plain)
    (dense,) = encoder.encode(excluding, [row], list(range(tiny.D_SAE)))
    np.testing.assert_array_equal(dense, expected)
    (sparse,) = encoder.encode_sparse(excluding, [row])
    assert sparse.indptr[-1] == len(sparse.values) == np.count_nonzero(expected)
    assert np.diff(sparse.indptr).tolist() == np.count_nonzero(expected, axis=1).tolist()
