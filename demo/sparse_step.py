"""The training step of a TopK SAE at the cost of what is active.

SAELens multiplies dense matrices in the decoder and in every gradient, though only k of
thousands of latents are active per token. Here those products run on sparse matrices, in
float32; the result is that of SAELens' step up to rounding, which a test holds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


class _Sparse:
    """Values at k columns per row, as compressed sparse rows of the matrix or its transpose."""

    def __init__(self, columns: Int[Tensor, "row k"], width: int) -> None:
        self._shape = (columns.shape[0], width)
        self._flat = columns.reshape(-1)
        self._row_ends = torch.arange(0, self._flat.numel() + 1, columns.shape[1])
        # Two-byte keys: numpy sorts them by radix, a hundred times faster than torch.
        keys = self._flat.to(torch.int16).numpy()
        self._order = torch.from_numpy(np.argsort(keys, kind="stable"))
        self._rows = torch.div(self._order, columns.shape[1], rounding_mode="floor")
        counts = torch.bincount(self._flat, minlength=width)
        self._column_ends = torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)])

    def times(self, values: Tensor, dense: Float[Tensor, "width d"]) -> Float[Tensor, "row d"]:
        matrix = torch.sparse_csr_tensor(
            self._row_ends, self._flat, values.reshape(-1), self._shape, check_invariants=False
        )
        return matrix @ dense

    def transposed_times(
        self, values: Tensor, dense: Float[Tensor, "row d"]
    ) -> Float[Tensor, "width d"]:
        matrix = torch.sparse_csr_tensor(
            self._column_ends,
            self._rows,
            values.reshape(-1)[self._order],
            self._shape[::-1],
            check_invariants=False,
        )
        return matrix @ dense

    def column_sums(self, values: Tensor) -> Float[Tensor, " width"]:
        return torch.bincount(self._flat, weights=values.reshape(-1), minlength=self._shape[1])


class _Encode(torch.autograd.Function):
    """Pre-activations at chosen latents; they were computed for all to choose, so are given."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w_enc: Tensor,
        b_enc: Tensor,
        chosen: Tensor,
        sparse: _Sparse,
    ) -> Tensor:
        ctx.save_for_backward(x, w_enc)
        ctx.sparse = sparse
        return chosen.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, w_enc = ctx.saved_tensors
        of_weights = ctx.sparse.transposed_times(gradient, x).T
        of_bias = ctx.sparse.column_sums(gradient).to(x.dtype)
        # Only the input's bias needs a gradient, and it needs its sum over the rows alone.
        of_input = (w_enc @ of_bias / len(x)).expand_as(x)
        return of_input, of_weights, of_bias, None, None


class _Decode(torch.autograd.Function):
    """Sum of decoder rows weighted by the values at chosen latents."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, columns: Tensor, w_dec: Tensor, sparse: _Sparse
    ) -> Tensor:
        ctx.save_for_backward(values, columns, w_dec)
        ctx.sparse = sparse
        return sparse.times(values, w_dec)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        values, columns, w_dec = ctx.saved_tensors
        of_values = (gradient @ w_dec.T).gather(1, columns)
        return of_values, None, ctx.sparse.transposed_times(values, gradient), None


def loss_and_active(
    x: Float[Tensor, "token d_in"],
    sae: Any,
    dead: Tensor,
    auxiliary_latents: int,
) -> tuple[Tensor, Int[Tensor, "token k"], Tensor]:
    """Reconstruction loss, the active latents and the loss of dead latents on the residual.

    ``sae`` is a SAELens ``TopKTrainingSAE`` with unit decoder rows and ``b_dec`` subtracted
    from its input. Losses are mean squared norms per token; the second is 0 without dead
    latents and weighted by the share of the auxiliary latents that there are.
    """
    centred = x - sae.b_dec
    with torch.no_grad():
        before = torch.addmm(sae.b_enc, centred, sae.W_enc)
    chosen, columns = before.topk(sae.cfg.k, dim=1, sorted=False)
    rebuilt = _rebuild(centred, sae, chosen, columns, rectified=True) + sae.b_dec
    loss = (rebuilt - x).pow(2).sum(1).mean()
    count = min(auxiliary_latents, int(dead.sum()))
    if count == 0:
        return loss, columns, torch.zeros(())
    candidates = dead.nonzero().squeeze(1)
    chosen, places = before[:, candidates].topk(count, dim=1, sorted=False)
    guess = _rebuild(centred, sae, chosen, candidates[places], rectified=False)
    auxiliary = (guess - (x - rebuilt).detach()).pow(2).sum(1).mean()
    return loss, columns, auxiliary * count / auxiliary_latents


def _rebuild(
    centred: Tensor, sae: Any, chosen: Tensor, columns: Tensor, *, rectified: bool
) -> Tensor:
    sparse = _Sparse(columns, sae.cfg.d_sae)
    values = _Encode.apply(centred, sae.W_enc, sae.b_enc, chosen, sparse)
    values = values.relu() if rectified else values
    return _Decode.apply(values, columns, sae.W_dec, sparse)
