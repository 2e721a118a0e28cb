"""TopK SAE (Gao et al., arXiv:2406.04093): the k largest pre-activations of each token."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from services.activation.encoder.saes.base import Sae

_WORTH_SCREENING = 8
"""Chosen features are looked at first where they are at most this fraction of all."""


class TopKSae(Sae):
    """ReLU of the k largest pre-activations, else 0.

    With ``rescale_acts_by_decoder_norm`` pre-activations are multiplied by the length of the
    feature's decoder row before they are ranked.
    """

    @torch.inference_mode()
    def encode(
        self, hidden: Float[Tensor, "tokens width"], features: Int[Tensor, " chosen"] | None = None
    ) -> Float[Tensor, "tokens chosen"]:
        """Activations of chosen features: the others are ranked with them and not kept.

        Only a pre-activation above 0 can become an activation, so the ranking over all features
        is left out for tokens where none of the chosen ones is above 0: most tokens, for a few
        features.
        """
        x = self._input(hidden)
        if features is None:
            values, indices = self._top(x)
            return values.new_zeros((len(x), self.feature_count)).scatter_(-1, indices, values)
        wanted, place = torch.unique(features, return_inverse=True)
        if len(wanted) * _WORTH_SCREENING > self.feature_count:
            return self._ranked(x, wanted)[:, place]
        rows = (self._pre_activations(x, wanted) > 0).any(dim=-1).nonzero()[:, 0]
        active = x.new_zeros((len(x), len(wanted)))
        active[rows] = self._ranked(x[rows], wanted)
        return active[:, place]

    @torch.inference_mode()
    def encode_sparse(
        self, hidden: Float[Tensor, "tokens width"]
    ) -> tuple[Int[Tensor, " nonzero"], Int[Tensor, " nonzero"], Float[Tensor, " nonzero"]]:
        """All activations above zero as (token, feature, value), by token, then by feature."""
        values, indices = self._top(self._input(hidden))
        indices, order = indices.sort(dim=-1)
        values = values.gather(-1, order)
        tokens, slots = (values > 0).nonzero(as_tuple=True)
        return tokens, indices[tokens, slots], values[tokens, slots]

    def _ranked(self, x: Tensor, wanted: Tensor) -> Float[Tensor, "tokens wanted"]:
        """Activations of ``wanted`` features, each named once, for tokens where all are ranked."""
        values, indices = self._top(x)
        column = torch.full((self.feature_count,), -1, device=wanted.device)
        column[wanted] = torch.arange(len(wanted), device=wanted.device)
        columns = column[indices]
        tokens, slots = (columns >= 0).nonzero(as_tuple=True)
        active = values.new_zeros((len(x), len(wanted)))
        active[tokens, columns[tokens, slots]] = values[tokens, slots]
        return active

    def _top(self, x: Tensor) -> tuple[Float[Tensor, "tokens k"], Int[Tensor, "tokens k"]]:
        assert self.config.k is not None  # checked when the configuration was read
        pre = self._pre_activations(x, None)
        values, indices = torch.topk(pre, k=self.config.k, dim=-1, sorted=False)
        return values.relu(), indices

    def _pre_activations(self, x: Tensor, features: Tensor | None) -> Tensor:
        pre = super()._pre_activations(x, features)
        if not self.config.rescale_acts_by_decoder_norm:
            return pre
        return pre * (self.decoder_norms if features is None else self.decoder_norms[features])

    def _activate(self, x: Tensor, pre: Tensor, features: Tensor | None) -> Tensor:
        raise AssertionError("features of a TopK SAE are ranked together")
