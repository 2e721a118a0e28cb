"""Facts of all features of an SAE at once, from the weights: products in chunks of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from services.activation.encoder.encode import never_cancelled
from services.activation.encoder.model import CutModel
from services.activation.encoder.readout import logit_directions, unembedding
from services.activation.encoder.sae import Sae
from services.common.errors import Cancelled, Unimplemented

_CHUNK_NUMBERS = 16_000_000
"""Entries of one product: 64 MB."""

Ids = NDArray[np.int32]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Ranked:
    """Per feature a few indices with their scores, best first."""

    indices: Ids
    """[features, count]"""
    scores: Floats
    """[features, count]"""


@dataclass(frozen=True)
class TokenEffects:
    """Output tokens that each feature raises and lowers most."""

    promoted: Ranked
    suppressed: Ranked


@torch.inference_mode()
def output_tokens(
    model: CutModel,
    sae: Sae,
    *,
    vocabulary_size: int,
    token_count: int,
    cancelled: Callable[[], bool] = never_cancelled,
) -> TokenEffects | str:
    """Promoted and suppressed tokens of every feature, or why there are none.

    Args:
        model: The language model.
        sae: The SAE.
        vocabulary_size: Tokens that the tokenizer knows; rows of the unembedding beyond are
            padding.
        token_count: Tokens at either end.
        cancelled: Asked between chunks.

    Raises:
        Cancelled: ``cancelled`` said so.
    """
    try:
        directions = logit_directions(model, sae)
    except Unimplemented as error:
        return error.message
    head = unembedding(model)[:vocabulary_size]
    count = min(token_count, len(head))
    promoted: list[Ranked] = []
    suppressed: list[Ranked] = []
    for rows in _chunks(len(directions), len(head), cancelled):
        logits = _product(directions[rows], head)
        promoted.append(_largest(logits, count))
        lowest = _largest(-logits, count)
        suppressed.append(Ranked(lowest.indices, -lowest.scores))
    return TokenEffects(_join(promoted), _join(suppressed))


@torch.inference_mode()
def decoder_neighbors(
    sae: Sae, count: int, cancelled: Callable[[], bool] = never_cancelled
) -> Ranked:
    """The features of the most similar decoder row, by cosine, without the feature itself."""
    directions = normalize(sae.weights["W_dec"].float(), dim=-1)
    found: list[Ranked] = []
    for rows in _chunks(len(directions), len(directions), cancelled):
        cosines = _product(directions[rows], directions)
        own = torch.arange(len(cosines), device=cosines.device)
        cosines[own, torch.arange(rows.start, rows.stop, device=cosines.device)] = -torch.inf
        found.append(_largest(cosines, min(count, len(directions) - 1)))
    return _join(found)


@torch.inference_mode()
def density_matches(
    sae: Sae,
    densities: Floats,
    usable: NDArray[np.bool_],
    *,
    unrelated_cosine: float,
    cancelled: Callable[[], bool] = never_cancelled,
) -> Ids:
    """[features] the usable feature of the closest density whose decoder row points elsewhere
    (cosine below ``unrelated_cosine`` in size), the first of equals; -1 where there is none."""
    directions = normalize(sae.weights["W_dec"].float(), dim=-1)
    density = densities.astype(np.float64)
    matches = np.full(len(density), -1, np.int32)
    for rows in _chunks(len(directions), len(directions), cancelled):
        cosines = _product(directions[rows], directions).cpu().numpy()
        distance = np.abs(density[None, :] - density[rows, None])
        distance[(np.abs(cosines) >= unrelated_cosine) | ~usable[None, :]] = np.inf
        distance[np.arange(len(cosines)), np.arange(rows.start, rows.stop)] = np.inf
        best = distance.argmin(axis=1)
        there = np.isfinite(distance[np.arange(len(best)), best])
        matches[rows][there] = best[there]
    return matches


def _chunks(row_count: int, width: int, cancelled: Callable[[], bool]) -> Iterator[slice]:
    size = max(1, _CHUNK_NUMBERS // max(1, width))
    for start in range(0, row_count, size):
        if cancelled():
            raise Cancelled("the caller no longer wants the answer")
        yield slice(start, min(row_count, start + size))


def _product(
    rows: Float[Tensor, "rows width"], columns: Float[Tensor, "columns width"]
) -> Float[Tensor, "rows columns"]:
    return rows @ columns.T.to(rows.dtype)


def _largest(scores: Float[Tensor, "rows items"], count: int) -> Ranked:
    """Largest first; equal ones by index."""
    values, indices = torch.topk(scores, count, dim=-1)
    found, places = values.cpu().numpy(), indices.cpu().numpy()
    order = np.lexsort((places, -found), axis=-1)
    return Ranked(
        np.take_along_axis(places, order, axis=1).astype(np.int32),
        np.take_along_axis(found, order, axis=1).astype(np.float32),
    )


def _join(parts: list[Ranked]) -> Ranked:
    return Ranked(
        np.concatenate([part.indices for part in parts]),
        np.concatenate([part.scores for part in parts]),
    )
