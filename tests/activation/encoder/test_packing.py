"""Rows side by side in one pass must give what each gives alone, in every family.

Load-bearing: the comparison with single padded runs, rows longer than a sliding window among
them; it guards against attention that looks into a neighbour and against positions that run on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from services.activation.encoder.hooks import parse_hook
from services.activation.encoder.model import CutModel
from services.activation.encoder.packing import packed_states
from tests.activation import tiny
from tests.activation.encoder.test_continuations import FAMILIES, VOCABULARY


def rows_of(lengths: list[int]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(2, VOCABULARY, length) for length in lengths]


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_rows_equal_single_rows(family: str) -> None:
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(FAMILIES[family]).eval()
    model = CutModel(network, device=torch.device("cpu"))
    rows = rows_of([9, 1, 20, 4, 3])
    hooks = list(map(parse_hook, ("blocks.1.hook_resid_post", "blocks.0.attn.hook_z")))
    packed = packed_states(model, rows, hooks)
    for hook in hooks:
        alone = [model.hidden_states(torch.from_numpy(row)[None], hook)[0] for row in rows]
        assert float(torch.cat(alone).abs().max()) > 0.1
        torch.testing.assert_close(packed[hook], torch.cat(alone), rtol=1e-4, atol=1e-5)


def test_a_neighbour_changes_nothing(model: CutModel) -> None:
    """Guards against attention across rows, to the bit."""
    hook, rows = parse_hook(tiny.HOOK), rows_of([7, 5])
    other = rows_of([7, 7])[1][:5] + 1
    one = packed_states(model, rows, (hook,))[hook]
    two = packed_states(model, [rows[0], other], (hook,))[hook]
    assert torch.equal(one[:7], two[:7])
    assert not torch.equal(one[7:], two[7:])


def test_the_model_attends_as_before_after_a_pass_that_failed(model: CutModel) -> None:
    """Guards the switch of the attention implementation."""
    hook, row = parse_hook(tiny.HOOK), rows_of([6])[0]
    before = model.hidden_states(torch.from_numpy(row)[None], hook)
    with pytest.raises(IndexError):
        packed_states(model, [np.array([10**6])], (hook,))
    assert torch.equal(model.hidden_states(torch.from_numpy(row)[None], hook), before)


def test_a_pass_that_does_not_fit_into_memory_is_run_in_halves(
    model: CutModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against rows that change places, and against endless halving."""
    hook, rows = parse_hook(tiny.HOOK), rows_of([7, 5, 3, 6, 2])
    expected = packed_states(model, rows, (hook,))[hook]
    forward, sizes = model.hidden_states_at, []

    def cramped(ids: torch.Tensor, hooks: Any, **inputs: Any) -> Any:
        sizes.append(ids.numel())
        if ids.numel() > 8:
            raise torch.OutOfMemoryError("no room")
        return forward(ids, hooks, **inputs)

    monkeypatch.setattr(model, "hidden_states_at", cramped)
    found = packed_states(model, rows, (hook,))[hook]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert sizes == [23, 12, 7, 5, 11, 3, 8]
    with pytest.raises(torch.OutOfMemoryError):
        packed_states(model, rows_of([9]), (hook,))
