"""Many token rows in, feature activations out, batched.

Rows are sorted by length and packed under a token budget. What is answered for a row does not
depend on its neighbours in the batch beyond rounding (1e-4 of the feature's reference maximum,
on pre-activations). Position 0 holds the begin-of-sequence token, an attention sink: it is not
scored and its value is reported as 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from services.activation.encoder.model import CutModel, pad_rows
from services.activation.encoder.rows import (
    FIRST_SCORED_POSITION,
    DenseRow,
    SparseRow,
    TokenRow,
    check_rows,
)
from services.activation.encoder.sae import Sae
from services.common.errors import Cancelled


def never_cancelled() -> bool:
    """For callers that cannot be cancelled."""
    return False


def plan_batches(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Group row indices so that ``rows x longest row`` stays within the budget.

    A row longer than the budget gets a batch of its own. Longest rows come first, so that a
    machine too small for them says so at once.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    batches: list[list[int]] = []
    for index in order:
        longest = lengths[batches[-1][0]] if batches else 0
        if not batches or (len(batches[-1]) + 1) * longest > token_budget:
            batches.append([])
        batches[-1].append(index)
    return batches


class Encoder:
    """One language model and any SAE whose hook it reaches.

    Args:
        model: The cut model.
        batch_token_budget: Padded tokens of one forward pass.
    """

    def __init__(self, model: CutModel, *, batch_token_budget: int = 4_096) -> None:
        self.model = model
        self.batch_token_budget = batch_token_budget

    def encode(
        self,
        sae: Sae,
        rows: Sequence[TokenRow],
        features: Sequence[int],
        cancelled: Callable[[], bool] = never_cancelled,
    ) -> list[DenseRow]:
        """Activations of chosen features, in the order of ``rows`` and ``features``.

        Raises:
            InvalidArgument: A row or a feature is not acceptable.
            Cancelled: ``cancelled`` said so between two batches.
        """
        chosen = self._chosen(sae, features)
        return self._dense(sae, rows, cancelled, lambda hidden: sae.encode(hidden, chosen))

    def pre_activations(
        self, sae: Sae, rows: Sequence[TokenRow], features: Sequence[int]
    ) -> list[DenseRow]:
        """Encoder outputs before the nonlinearity, where the tolerance is defined."""
        chosen = self._chosen(sae, features)
        return self._dense(
            sae, rows, never_cancelled, lambda hidden: sae.pre_activations(hidden, chosen)
        )

    def encode_sparse(
        self,
        sae: Sae,
        rows: Sequence[TokenRow],
        cancelled: Callable[[], bool] = never_cancelled,
    ) -> list[SparseRow]:
        """Every activation above zero, per row. Errors as for :meth:`encode`."""
        results: dict[int, SparseRow] = {}
        for indices, hidden in self._hidden(sae, rows, cancelled):
            lengths = [len(rows[index]) for index in indices]
            tokens, features, values = (part.cpu().numpy() for part in sae.encode_sparse(hidden))
            scored = ~np.isin(tokens, np.cumsum([0, *lengths[:-1]]))
            tokens, features, values = tokens[scored], features[scored], values[scored]
            counts = np.bincount(tokens, minlength=sum(lengths))
            bounds = np.concatenate([[0], np.cumsum(counts)])
            start = 0
            for index, length in zip(indices, lengths, strict=True):
                indptr = bounds[start : start + length + 1]
                entries = slice(indptr[0], indptr[-1])
                results[index] = SparseRow(
                    (indptr - indptr[0]).astype(np.int64),
                    features[entries].astype(np.int32),
                    values[entries].astype(np.float32),
                )
                start += length
        return [results[index] for index in range(len(rows))]

    def _chosen(self, sae: Sae, features: Sequence[int]) -> Tensor:
        chosen = torch.tensor(list(features), dtype=torch.int64)
        sae.check_features(chosen)
        return chosen.to(self.model.device)

    def _dense(
        self,
        sae: Sae,
        rows: Sequence[TokenRow],
        cancelled: Callable[[], bool],
        compute: Callable[[Float[Tensor, "tokens d_in"]], Float[Tensor, "tokens chosen"]],
    ) -> list[DenseRow]:
        results: dict[int, DenseRow] = {}
        for indices, hidden in self._hidden(sae, rows, cancelled):
            values = compute(hidden).to("cpu", torch.float32).numpy()
            start = 0
            for index in indices:
                row = values[start : start + len(rows[index])].copy()
                row[:FIRST_SCORED_POSITION] = 0.0
                results[index] = row
                start += len(rows[index])
        return [results[index] for index in range(len(rows))]

    def _hidden(
        self, sae: Sae, rows: Sequence[TokenRow], cancelled: Callable[[], bool]
    ) -> Iterator[tuple[list[int], Float[Tensor, "tokens d_in"]]]:
        """Per batch: its row indices and their hidden states, joined without the padding."""
        check_rows(
            rows,
            vocabulary_size=self.model.vocabulary_size,
            maximum_tokens=self.model.maximum_positions,
        )
        for indices in plan_batches([len(row) for row in rows], self.batch_token_budget):
            if cancelled():
                raise Cancelled("the caller no longer wants the answer")
            states = self.model.hidden_states(pad_rows([rows[i] for i in indices]), sae.config.hook)
            parts = [states[place, : len(rows[index])] for place, index in enumerate(indices)]
            yield indices, torch.cat(parts)
