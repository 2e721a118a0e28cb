"""BatchTopK SAE (Bussmann et al., arXiv:2412.06410), plain and Matryoshka.

In training the largest activations of a batch survive, which would make a text's values depend
on its neighbours. SAELens keeps a running threshold and saves such SAEs as JumpReLU with it;
checkpoints that were not saved for inference are brought to the same form here. The nested
losses of a Matryoshka SAE (arXiv:2503.17547) shape its weights, not its encoder.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from services.activation.encoder.saes.config import SaeConfig
from services.activation.encoder.saes.jumprelu import JumpReluSae


class BatchTopKSae(JumpReluSae):
    """JumpReLU with the threshold of training."""


def with_threshold(config: SaeConfig, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a training checkpoint in the form that is saved for inference.

    Decoder lengths are folded into the encoder where training ranked by them.
    """
    if "topk_threshold" not in weights or "W_dec" not in weights or "W_enc" not in weights:
        return dict(weights)  # saved for inference already, or refused for what it lacks
    folded = {name: tensor for name, tensor in weights.items() if name != "topk_threshold"}
    threshold = weights["topk_threshold"]
    if config.rescale_acts_by_decoder_norm:
        norms = weights["W_dec"].norm(dim=-1).clamp(min=1e-8)
        folded["W_enc"] = weights["W_enc"] * norms
        folded["b_enc"] = weights["b_enc"] * norms
        folded["W_dec"] = weights["W_dec"] / norms[:, None]
    folded["threshold"] = threshold.to(weights["W_enc"].dtype).expand(config.d_sae)
    return folded
