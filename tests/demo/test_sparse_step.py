"""The fast training step is SAELens' own, up to rounding.

Guards against a wrong gradient, which would still train, only worse. Load-bearing: the
comparison of all gradients with SAELens' dense forward and backward pass.
"""

from __future__ import annotations

import pytest
import torch
from sae_lens.saes.sae import TrainStepInput
from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig

from demo.sparse_step import loss_and_active


def _sae() -> TopKTrainingSAE:
    torch.manual_seed(3)
    config = TopKTrainingSAEConfig(d_in=24, d_sae=96, k=5, decoder_init_norm=1.0)
    sae = TopKTrainingSAE(config)
    sae.b_dec.data = torch.randn(24) * 0.3
    sae.b_enc.data = torch.randn(96) * 0.1
    return sae


def test_loss_and_gradients_equal_those_of_saelens() -> None:
    """A dropped term in a hand-written backward pass."""
    sae, batch = _sae(), torch.randn(64, 24)
    loss, active, auxiliary = loss_and_active(batch, sae, torch.zeros(96, dtype=torch.bool), 8)
    loss.backward()
    ours = {name: value.grad.clone() for name, value in sae.named_parameters()}
    sae.zero_grad()
    reference = sae.training_forward_pass(
        TrainStepInput(
            sae_in=batch,
            coefficients={},
            dead_neuron_mask=None,
            n_training_steps=0,
            is_logging_step=False,
        )
    )
    reference.loss.backward()
    assert loss.item() == pytest.approx(reference.loss.item(), rel=1e-5)
    assert auxiliary.item() == 0
    for name, value in sae.named_parameters():
        torch.testing.assert_close(ours[name], value.grad, rtol=1e-4, atol=1e-5)
    fired = reference.feature_acts.bool().any(0).nonzero().squeeze(1)
    assert set(fired.tolist()) <= set(active.unique().tolist())


def test_the_auxiliary_loss_moves_dead_latents_only() -> None:
    """An auxiliary loss on living latents would fight the main one."""
    sae, batch = _sae(), torch.randn(64, 24)
    dead = torch.zeros(96, dtype=torch.bool)
    dead[[4, 17, 60]] = True
    _, _, auxiliary = loss_and_active(batch, sae, dead, 8)
    assert auxiliary.item() > 0
    auxiliary.backward()
    moved = sae.W_enc.grad.abs().sum(0) > 0
    assert moved[dead].all() and not moved[~dead].any()
