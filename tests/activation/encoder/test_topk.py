"""A TopK SAE ranks only tokens where a chosen feature can be active; values stay the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from services.activation.encoder.sae import load_sae
from services.activation.encoder.saes.topk import TopKSae
from services.activation.encoder.sources import SaeSource
from tests.activation import tiny


@pytest.fixture(params=[{}, {"rescale_acts_by_decoder_norm": True}], ids=["plain", "rescaled"])
def sae(tmp_path: Path, request: pytest.FixtureRequest) -> TopKSae:
    found = load_sae(SaeSource(str(tiny.write_sae(tmp_path / "topk", "topk", **request.param))))
    assert isinstance(found, TopKSae)
    return found


@pytest.mark.parametrize("chosen", [[3], [95, 0, 3, 40], [3, 3], list(range(96))])
def test_chosen_features_have_the_values_of_a_full_ranking(sae: TopKSae, chosen: list[int]) -> None:
    """Guards against tokens left out although a chosen feature is active, and swapped columns."""
    hidden = torch.randn(200, tiny.D_MODEL, generator=torch.Generator().manual_seed(3)) * 3
    full = sae.encode(hidden)
    assert (full[:, chosen] > 0).any()
    torch.testing.assert_close(sae.encode(hidden, torch.tensor(chosen)), full[:, chosen])


def test_tokens_without_a_chosen_feature_above_zero_are_not_ranked(
    sae: TopKSae, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards the speed of it: a screen that lets everything through gives the same values."""
    hidden = torch.randn(200, tiny.D_MODEL, generator=torch.Generator().manual_seed(3)) * 3
    ranked: list[int] = []
    top = TopKSae._top

    def counted(self: TopKSae, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        ranked.append(len(x))
        return top(self, x)

    monkeypatch.setattr(TopKSae, "_top", counted)
    sae.encode(hidden, torch.tensor([3]))
    assert ranked == [int((sae.pre_activations(hidden, torch.tensor([3])) > 0).sum())]
    assert 0 < ranked[0] < 200
