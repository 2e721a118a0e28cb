"""One forward pass for callers who do not know each other: several SAEs, hooks and features.

Load-bearing: what each gets equals what it gets alone. Guards against a row that is encoded at
another SAE's hook, and against columns of the union that go to the wrong caller.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from services.activation.encoder.encode import Encoder, PassRow
from services.activation.encoder.model import load_model
from services.activation.encoder.rows import SparseRow, TokenRow
from services.activation.encoder.sae import Sae, load_sae
from services.activation.encoder.sources import ModelSource, SaeSource
from tests.activation import tiny

HOOKS = ("blocks.0.hook_resid_pre", "blocks.2.hook_resid_post", "blocks.1.hook_resid_post")


@pytest.fixture(scope="module")
def deep(model_folder: Path) -> Encoder:
    return Encoder(load_model(ModelSource(str(model_folder)), 3), batch_token_budget=256)


@pytest.fixture(scope="module")
def saes(tmp_path_factory: pytest.TempPathFactory) -> list[Sae]:
    folder = tmp_path_factory.mktemp("saes")
    kinds = ("topk", "standard", "jumprelu")
    return [
        load_sae(
            SaeSource(
                str(tiny.write_sae(folder / kind, kind, number, metadata={"hook_name": hook}))
            )
        )
        for number, (kind, hook) in enumerate(zip(kinds, HOOKS, strict=True))
    ]


def rows_of(lengths: list[int]) -> list[TokenRow]:
    rng = np.random.default_rng(4)
    return [np.array([1, *rng.integers(2, 400, length - 1)], dtype=np.int64) for length in lengths]


def test_rows_of_several_saes_share_one_forward_pass(
    deep: Encoder, saes: list[Sae], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of([9, 30, 1, 17, 30, 4, 12])
    wanted: list[tuple[int, ...] | None] = [(3, 1), (5,), None, (1, 3), (9, 0, 2), None, (95,)]
    asked = [
        PassRow(row, saes[number % 3], features)
        for number, (row, features) in enumerate(zip(rows, wanted, strict=True))
    ]
    passes = []
    forward = deep.model.hidden_states_at

    def counted(ids: torch.Tensor, hooks: object, **inputs: object) -> object:
        passes.append(hooks)
        return forward(ids, hooks, **inputs)  # type: ignore[arg-type]

    monkeypatch.setattr(deep.model, "hidden_states_at", counted)
    found = deep.run_pass(asked)
    assert [len(hooks) for hooks in passes] == [3]
    for one, answer in zip(asked, found, strict=True):
        if one.features is None:
            (alone,) = deep.encode_sparse(one.sae, [one.row])
            assert isinstance(answer, SparseRow)
            np.testing.assert_array_equal(answer.features, alone.features)
            np.testing.assert_allclose(answer.values, alone.values, atol=1e-4)
        else:
            (dense,) = deep.encode(one.sae, [one.row], one.features)
            assert isinstance(answer, np.ndarray)
            np.testing.assert_allclose(answer, dense, atol=1e-4)
    assert any(isinstance(answer, np.ndarray) and answer.any() for answer in found)


def test_a_wide_union_is_split_where_the_sae_can_do_without_it(
    deep: Encoder, saes: list[Sae], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against one caller's thousand features being computed for everybody's tokens."""
    monkeypatch.setattr("services.activation.encoder.encode._MAX_UNION", 4)
    widths = []
    for kind, encode in {type(sae): type(sae).encode for sae in saes}.items():

        def counted(
            sae: Sae, hidden: torch.Tensor, features: torch.Tensor, encode: Any = encode
        ) -> Any:
            widths.append(len(features))
            return encode(sae, hidden, features)

        monkeypatch.setattr(kind, "encode", counted)
    rows = rows_of([5, 6, 7, 8])
    asked = [
        PassRow(rows[0], saes[1], (0, 1, 2)),
        PassRow(rows[1], saes[1], (3, 4, 5)),
        PassRow(rows[2], saes[0], (0, 1, 2)),
        PassRow(rows[3], saes[0], (3, 4, 5)),
    ]
    found = deep.run_pass(asked)
    assert sorted(widths) == [3, 3, 6]
    assert [answer.shape for answer in found if isinstance(answer, np.ndarray)] == [
        *((5, 3), (6, 3), (7, 3), (8, 3))
    ]
