"""TopK SAE (Gao et al., arXiv:2406.04093): the k largest pre-activations of each token."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from services.activation.encoder.saes.base import Sae


class TopKSae(Sae):
    """ReLU of the k largest pre-activations, else 0.

    With ``rescale_acts_by_decoder_norm`` pre-activations are multiplied by the length of the
    feature's decoder row before they are ranked.
    """

    @torch.inference_mode()
    def encode(
        self, hidden: Float[Tensor, "tokens width"], features: Int[Tensor, " chosen"] | None = None
    ) -> Float[Tensor, "tokens chosen"]:
        """Activations of chosen features: the others are ranked with them and not kept."""
        values, indices = self._top(hidden)
        if features is None:
            dense = values.new_zeros((len(hidden), self.feature_count))
            return dense.scatter_(-1, indices, values)
        wanted, place = torch.unique(features, return_inverse=True)
        column = torch.full((self.feature_count,), -1, device=features.device)
        column[wanted] = torch.arange(len(wanted), device=features.device)
        columns = column[indices]
        tokens, slots = (columns >= 0).nonzero(as_tuple=True)
        chosen = values.new_zeros((len(hidden), len(wanted)))
        chosen[tokens, columns[tokens, slots]] = values[tokens, slots]
        return chosen[:, place]

    @torch.inference_mode()
    def encode_sparse(
        self, hidden: Float[Tensor, "tokens width"]
    ) -> tuple[Int[Tensor, " nonzero"], Int[Tensor, " nonzero"], Float[Tensor, " nonzero"]]:
        """All activations above zero as (token, feature, value), by token, then by feature."""
        values, indices = self._top(hidden)
        indices, order = indices.sort(dim=-1)
        values = values.gather(-1, order)
        tokens, slots = (values > 0).nonzero(as_tuple=True)
        return tokens, indices[tokens, slots], values[tokens, slots]

    def _top(self, hidden: Tensor) -> tuple[Float[Tensor, "tokens k"], Int[Tensor, "tokens k"]]:
        assert self.config.k is not None  # checked when the configuration was read
        pre = self._pre_activations(self._input(hidden), None)
        values, indices = torch.topk(pre, k=self.config.k, dim=-1, sorted=False)
        return values.relu(), indices

    def _pre_activations(self, x: Tensor, features: Tensor | None) -> Tensor:
        pre = super()._pre_activations(x, features)
        if not self.config.rescale_acts_by_decoder_norm:
            return pre
        return pre * (self.decoder_norms if features is None else self.decoder_norms[features])

    def _activate(self, x: Tensor, pre: Tensor, features: Tensor | None) -> Tensor:
        raise AssertionError("features of a TopK SAE are ranked together")
