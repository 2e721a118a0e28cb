"""Computes the annotations of an index: one pass over the vocabulary per carrier, then products
of the weights. Imports torch. The same index, model and SAE give the same bytes on one kind of
CPU with one number of threads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.activation.annotations.tables import Annotations, Header, scaled
from services.activation.encoder.bulk_facts import (
    Ranked,
    decoder_neighbors,
    density_matches,
    output_tokens,
)
from services.activation.encoder.continuations import Continuations
from services.activation.encoder.loaded import LoadedSae
from services.activation.encoder.tokenizer import TextTokenizer
from services.activation.index.reader import IndexReader
from services.activation.vocabulary.carriers import Carrier, short_carriers
from services.activation.vocabulary.tops import NO_TOKEN, Tops, TopTokens
from services.common.errors import Cancelled
from services.common.outcomes import OutcomeThresholds

BATCH_TOKENS = 1_024
"""Tokens of one forward pass: fixed, so that the bytes do not depend on settings."""
TOP_COUNT = 24
"""Tokens kept per feature and carrier."""
NEIGHBOR_COUNT = 10
TOKEN_COUNT = 20
UNRELATED_COSINE = 0.1

Cancel = Callable[[], bool]


@dataclass(frozen=True)
class RowProgress:
    """How far a build has come. A row is one token behind one carrier."""

    done_rows: int
    total_rows: int


def annotate(
    loaded: LoadedSae,
    tokenizer: TextTokenizer,
    reader: IndexReader,
    *,
    cancelled: Cancel,
    report: Callable[[RowProgress], None],
) -> Annotations:
    """Everything that is kept beside an index.

    Raises:
        Cancelled: ``cancelled`` said so between two batches.
    """
    carriers = short_carriers(tokenizer)
    size = min(tokenizer.vocabulary_size, loaded.encoder.model.vocabulary_size)
    reference = np.asarray(reader.files.array("reference_max"), dtype=np.float64)
    floors = (reference * OutcomeThresholds().active_share).astype(np.float32)
    total = size * len(carriers)
    tops = []
    for place, carrier in enumerate(carriers):

        def step(done: int, before: int = place * size) -> None:
            report(RowProgress(before + done, total))

        row = carrier.row(tokenizer)
        tops.append(_probe(loaded, row, size, floors, cancelled, step))
    arrays, absent = _weight_arrays(loaded, size, reader, cancelled)
    arrays |= _probe_arrays(tops)
    return Annotations(_header(reader, loaded, carriers, size, absent), arrays)


def _header(
    reader: IndexReader,
    loaded: LoadedSae,
    carriers: tuple[Carrier, ...],
    vocabulary_size: int,
    absent: str,
) -> Header:
    return Header(
        reader.key, loaded.fingerprints, loaded.readout, carriers, vocabulary_size, absent
    )


def _probe(
    loaded: LoadedSae,
    prefix: NDArray[np.int64],
    vocabulary_size: int,
    floors: NDArray[np.float32],
    cancelled: Cancel,
    step: Callable[[int], None],
) -> Tops:
    continuations = Continuations(max_prefixes=1)
    tops = TopTokens(loaded.sae.feature_count, TOP_COUNT, floors)
    for start in range(0, vocabulary_size, BATCH_TOKENS):
        if cancelled():
            raise Cancelled("the caller no longer wants the annotations")
        tokens = np.arange(start, min(vocabulary_size, start + BATCH_TOKENS), dtype=np.int64)
        tops.add(tokens, continuations.sparse(loaded.encoder.model, loaded.sae, prefix, tokens))
        step(int(tokens[-1]) + 1)
    return tops.result()


def _probe_arrays(tops: list[Tops]) -> dict[str, NDArray[Any]]:
    tokens = np.stack([top.token_ids for top in tops])
    values, scale = scaled(np.stack([top.values for top in tops]))
    return {
        "top_token": _smallest(np.where(tokens == NO_TOKEN, 0, tokens)),
        "top_value": values,
        "top_scale": scale,
        "positive_count": _smallest(np.stack([top.positive for top in tops])),
        "active_count": _smallest(np.stack([top.active for top in tops])),
    }


def _weight_arrays(
    loaded: LoadedSae, vocabulary_size: int, reader: IndexReader, cancelled: Cancel
) -> tuple[dict[str, NDArray[Any]], str]:
    """Arrays, and why output tokens are not among them."""
    sae = loaded.sae
    neighbors = decoder_neighbors(sae, NEIGHBOR_COUNT, cancelled)
    arrays: dict[str, NDArray[Any]] = {
        "decoder_norm": sae.decoder_norms.cpu().numpy(),
        "neighbor_index": _smallest(neighbors.indices),
        "neighbor_score": neighbors.scores,
        "density_match": density_matches(
            sae,
            reader.densities,
            reader.has_evidence,
            unrelated_cosine=UNRELATED_COSINE,
            cancelled=cancelled,
        ),
    }
    effects = output_tokens(
        loaded.encoder.model,
        sae,
        vocabulary_size=vocabulary_size,
        token_count=TOKEN_COUNT,
        cancelled=cancelled,
    )
    if isinstance(effects, str):
        return arrays, effects
    arrays |= _effect_arrays("promoted", effects.promoted)
    arrays |= _effect_arrays("suppressed", effects.suppressed)
    return arrays, ""


def _effect_arrays(name: str, ranked: Ranked) -> dict[str, NDArray[Any]]:
    scores, scale = scaled(ranked.scores)
    return {
        f"{name}_index": _smallest(ranked.indices),
        f"{name}_score": scores,
        f"{name}_scale": scale,
    }


def _smallest(array: NDArray[Any]) -> NDArray[Any]:
    """The same whole numbers >= 0 in the narrowest unsigned type that holds them."""
    return array.astype(np.min_scalar_type(int(array.max(initial=0))))
