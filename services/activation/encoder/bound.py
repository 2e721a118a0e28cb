"""An encoder bound to one SAE, as an index sweep wants it."""

from __future__ import annotations

from collections.abc import Callable

from services.activation.encoder.encode import Encoder, never_cancelled
from services.activation.encoder.model import CutModel
from services.activation.encoder.rows import SparseRow, TokenRow
from services.activation.encoder.sae import Sae


class BoundEncoder:
    """All features of one SAE for any token rows.

    Args:
        model: The cut model.
        sae: The SAE.
        batch_token_budget: Padded tokens of one forward pass; the index's own, so that the
            batches of a sweep are run as they were planned.
        cancelled: Asked before every forward pass.
    """

    def __init__(
        self,
        model: CutModel,
        sae: Sae,
        batch_token_budget: int,
        cancelled: Callable[[], bool] = never_cancelled,
    ) -> None:
        self._encoder = Encoder(model, batch_token_budget=batch_token_budget)
        self._sae = sae
        self._cancelled = cancelled

    @property
    def feature_count(self) -> int:
        """Features of the SAE."""
        return self._sae.feature_count

    def encode_sparse(self, rows: list[TokenRow]) -> list[SparseRow]:
        """All activations above zero; raises Cancelled when asked to stop."""
        return self._encoder.encode_sparse(self._sae, rows, self._cancelled)
