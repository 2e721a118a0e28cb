"""Many token rows in, feature activations out, batched.

Rows are packed without padding under a token budget. What is answered for a row does not depend
on its neighbours in the batch beyond rounding (1e-4 of the feature's reference maximum,
on pre-activations). Position 0 is the model's attention sink, whatever token stands there: it is
not scored and its value is reported as 0, as are those of tokens that the SAE was trained without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from services.activation.encoder.exclusion import silence
from services.activation.encoder.model import CutModel
from services.activation.encoder.packing import packed_states
from services.activation.encoder.rows import (
    FIRST_SCORED_POSITION,
    DenseRow,
    SparseRow,
    TokenRow,
    check_rows,
)
from services.activation.encoder.sae import Sae
from services.common.errors import Cancelled

_MAX_UNION = 1_024
"""Features that rows of different callers are computed for together, where each could be computed
alone: beyond it, columns that somebody else asked for cost more than another matrix product."""


def never_cancelled() -> bool:
    """For callers that cannot be cancelled."""
    return False


def plan_batches(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Group row indices so that the tokens of a group stay within the budget.

    A row longer than the budget gets a batch of its own. Longest rows come first, so that a
    machine too small for them says so at once.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    batches: list[list[int]] = []
    tokens = 0
    for index in order:
        if not batches or tokens + lengths[index] > token_budget:
            batches.append([])
            tokens = 0
        batches[-1].append(index)
        tokens += lengths[index]
    return batches


@dataclass(frozen=True)
class PassRow:
    """One row of a forward pass that several callers share."""

    row: TokenRow
    sae: Sae
    features: tuple[int, ...] | None
    """Features to compute; None for all above zero, sparse."""


class Encoder:
    """One language model and any SAE whose hook it reaches.

    Args:
        model: The cut model.
        batch_token_budget: Tokens of one forward pass.
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
        values = self._dense(sae, rows, cancelled, lambda hidden: sae.encode(hidden, chosen))
        return [silence(row, of, sae) for row, of in zip(rows, values, strict=True)]

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
            results.update(zip(indices, _sparse_rows(sae, hidden, lengths), strict=True))
        return [silence(row, results[index], sae) for index, row in enumerate(rows)]

    def run_pass(self, asked: Sequence[PassRow]) -> list[DenseRow | SparseRow]:
        """One forward pass for rows of any SAEs of this model, as far as the deepest hook.

        Rows and features have been checked, and the rows fit the token budget together. Each SAE
        encodes its own rows, all of them at once.

        Returns:
            What was asked, in order: a dense row where features are chosen, else a sparse one.
        """
        hooks = {one.sae.config.hook for one in asked}
        states = packed_states(self.model, [one.row for one in asked], hooks)
        ends = np.cumsum([len(one.row) for one in asked]).tolist()
        results: dict[int, DenseRow | SparseRow] = {}
        for places in _alike(asked):
            group = [asked[place] for place in places]
            at_hook = states[group[0].sae.config.hook]
            if len(group) < len(asked):
                parts = [at_hook[ends[p] - len(asked[p].row) : ends[p]] for p in places]
                at_hook = torch.cat(parts)
            results.update(zip(places, _encode_group(group[0].sae, at_hook, group), strict=True))
        return [silence(one.row, results[place], one.sae) for place, one in enumerate(asked)]

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
            lengths = [len(rows[index]) for index in indices]
            results.update(zip(indices, _dense_rows(compute(hidden), lengths), strict=True))
        return [results[index] for index in range(len(rows))]

    def _hidden(
        self, sae: Sae, rows: Sequence[TokenRow], cancelled: Callable[[], bool]
    ) -> Iterator[tuple[list[int], Float[Tensor, "tokens d_in"]]]:
        """Per batch: its row indices and their hidden states, joined."""
        check_rows(
            rows,
            vocabulary_size=self.model.vocabulary_size,
            maximum_tokens=self.model.maximum_positions,
        )
        for indices in plan_batches([len(row) for row in rows], self.batch_token_budget):
            if cancelled():
                raise Cancelled("the caller no longer wants the answer")
            hook = sae.config.hook
            yield indices, packed_states(self.model, [rows[i] for i in indices], (hook,))[hook]


def _alike(asked: Sequence[PassRow]) -> Iterator[list[int]]:
    """Places of rows that are encoded together: of one SAE, all sparse or all dense.

    Dense ones are computed for the union of their features, unless the union is wide and the SAE
    can do without it.
    """
    by_sae: dict[tuple[int, bool], list[int]] = {}
    for place, one in enumerate(asked):
        by_sae.setdefault((id(one.sae), one.features is None), []).append(place)
    for (_, sparse), places in by_sae.items():
        separable = asked[places[0]].sae.config.features_are_independent
        if sparse or not separable or len(_union([asked[p] for p in places])) <= _MAX_UNION:
            yield places
        else:
            by_features: dict[tuple[int, ...] | None, list[int]] = {}
            for place in places:
                by_features.setdefault(asked[place].features, []).append(place)
            yield from by_features.values()


def _encode_group(
    sae: Sae, hidden: Float[Tensor, "tokens d_in"], group: Sequence[PassRow]
) -> Iterator[DenseRow | SparseRow]:
    """Answers of rows whose hidden states are joined in ``hidden``."""
    lengths = [len(one.row) for one in group]
    if group[0].features is None:
        yield from _sparse_rows(sae, hidden, lengths)
        return
    kinds = {one.features for one in group}
    same = len(kinds) == 1
    union = list(group[0].features) if same else _union(group)
    values = sae.encode(hidden, torch.tensor(union, dtype=torch.int64, device=hidden.device))
    column = {feature: place for place, feature in enumerate(union)}
    for one, row in zip(group, _dense_rows(values, lengths), strict=True):
        yield row if same else row[:, [column[feature] for feature in one.features or ()]]


def _union(group: Sequence[PassRow]) -> list[int]:
    return sorted({feature for one in group for feature in one.features or ()})


def _dense_rows(
    values: Float[Tensor, "tokens chosen"], lengths: Sequence[int]
) -> Iterator[DenseRow]:
    """Joined activations cut into rows of their own."""
    joined = values.to("cpu", torch.float32).numpy()
    start = 0
    for length in lengths:
        row = joined[start : start + length].copy()
        row[:FIRST_SCORED_POSITION] = 0.0
        yield row
        start += length


def _sparse_rows(
    sae: Sae, hidden: Float[Tensor, "tokens d_in"], lengths: Sequence[int]
) -> Iterator[SparseRow]:
    """All activations above zero of joined rows, cut into rows of their own."""
    tokens, features, values = (part.cpu().numpy() for part in sae.encode_sparse(hidden))
    scored = ~np.isin(tokens, np.cumsum([0, *lengths[:-1]]))
    tokens, features, values = tokens[scored], features[scored], values[scored]
    counts = np.bincount(tokens, minlength=sum(lengths))
    bounds = np.concatenate([[0], np.cumsum(counts)])
    start = 0
    for length in lengths:
        indptr = bounds[start : start + length + 1]
        entries = slice(indptr[0], indptr[-1])
        yield SparseRow(
            (indptr - indptr[0]).astype(np.int64),
            features[entries].astype(np.int32),
            values[entries].astype(np.float32),
        )
        start += length
