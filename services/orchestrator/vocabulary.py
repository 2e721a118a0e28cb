"""The vocabulary probe as evidence (method, section 4.1). Pure code.

The short carriers were probed with every token when the index was built. The carrier that is the
feature's own, its best exemplar up to the peak, is probed for the run, with the tokens that had a
reason: the strongest of the short carriers, those at which exemplars peak, and their variants and
neighbours by embedding. The whole vocabulary behind every feature's own words would cost a pass
over the vocabulary per feature.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saexplain.activation.v1 import activation_pb2
from saexplain.common.v1 import text_pb2, vocabulary_pb2
from services.common.errors import SaexplainError, Unimplemented
from services.common.tensors import from_tensor
from services.orchestrator.evidence import peak_index, strongest_peak_tokens, top_windows

CARRIER_TOKENS = 32
"""Longest exemplar carrier: the tokens nearest to the peak."""

FEWEST_CARRIER_TOKENS = 3
"""Shorter ones say less than the short carriers."""

MOST_CANDIDATES = 512
"""Tokens tried behind the exemplar carrier."""

PEAK_TOKENS = 64
"""Tokens at which exemplars peak, of the candidates."""

TOP_TOKENS = 24
"""Tokens kept of the exemplar carrier, as many as an index keeps of the others."""


def exemplar_prefix(lists: Sequence[activation_pb2.WindowList]) -> text_pb2.TokenSpan | None:
    """What stands left of the peak in the best exemplar that has enough there; None without."""
    for window in top_windows(lists):
        peak = peak_index(window)
        left, own = window.left_context, window.tokens
        ids = [*left.token_ids, *own.token_ids[:peak]][-CARRIER_TOKENS:]
        pieces = [*left.token_bytes, *own.token_bytes[:peak]][-CARRIER_TOKENS:]
        if len(ids) >= FEWEST_CARRIER_TOKENS:
            return text_pb2.TokenSpan(token_ids=ids, token_bytes=pieces)
    return None


def candidates(
    probes: Iterable[vocabulary_pb2.CarrierProbe],
    lists: Sequence[activation_pb2.WindowList],
    neighbors: Iterable[activation_pb2.TokenNeighbors],
) -> dict[int, bytes]:
    """Tokens that have a reason to be tried, by id with their bytes, at most
    `MOST_CANDIDATES`; what was measured comes before what only looks alike."""
    found: dict[int, bytes] = {}
    peaks = set(strongest_peak_tokens(lists, PEAK_TOKENS))
    for window in top_windows(lists):
        span = window.tokens
        for token, piece in zip(span.token_ids, span.token_bytes, strict=True):
            if token in peaks:
                found.setdefault(token, piece)
    for probe in probes:
        found |= {t.token_id: t.token_bytes for t in probe.top_tokens if t.token_id not in found}
    for listed in neighbors:
        for close in (*listed.variants, *listed.neighbors):
            found.setdefault(close.token_id, close.token_bytes)
    return dict(list(found.items())[:MOST_CANDIDATES])


def absence(error: SaexplainError) -> str:
    """Why evidence lacks a probe, of an error that costs it no more than that: nothing was
    kept with the index, or the model attends in a way that is not computed behind a prefix.

    Raises:
        SaexplainError: `error`, where it is anything else.
    """
    if isinstance(error, Unimplemented) or error.reason == "ANNOTATION_NOT_BUILT":
        return error.message
    raise error


def exemplar_request(
    sae: str, feature_index: int, prefix: text_pb2.TokenSpan, tokens: Iterable[int]
) -> activation_pb2.ProbeVocabularyRequest:
    """The probe behind the exemplar carrier."""
    return activation_pb2.ProbeVocabularyRequest(
        sae=sae,
        carriers=[
            activation_pb2.CarrierInput(token_ids=activation_pb2.TokenIds(ids=prefix.token_ids))
        ],
        feature_indices=[feature_index],
        token_ids=sorted(tokens),
        all_values=True,
    )


def exemplar_probe(
    prefix: text_pb2.TokenSpan,
    pieces: dict[int, bytes],
    pages: Iterable[activation_pb2.TokenValuesPage],
    reference_max: float,
    active_share: float,
) -> vocabulary_pb2.CarrierProbe:
    """The answer of the probe as evidence.

    Args:
        pieces: the bytes of every token that was tried.
        pages: values of the one feature.
        reference_max: the feature's unit.
        active_share: ACTIVE from this share of it on.
    """
    kept = list(pages)
    tokens: NDArray[Any] = np.concatenate([from_tensor(page.token_ids, "ids") for page in kept])
    values: NDArray[Any] = np.concatenate(
        [from_tensor(page.activations, "values")[:, 0] for page in kept]
    )
    probe = vocabulary_pb2.CarrierProbe(
        carrier=vocabulary_pb2.Carrier(
            name="exemplar", kind=vocabulary_pb2.CARRIER_KIND_EXEMPLAR, prefix=prefix
        ),
        probed_token_count=len(tokens),
        positive_token_count=int((values > 0).sum()),
    )
    order = [int(place) for place in np.lexsort((tokens, -values)) if values[place] > 0]
    for place in order[:TOP_TOKENS]:
        token, value = int(tokens[place]), float(values[place])
        entry = probe.top_tokens.add(token_id=token, token_bytes=pieces[token], activation=value)
        if reference_max > 0:
            entry.relative_activation = value / reference_max
    if reference_max > 0:
        probe.active_token_count = int((values >= active_share * reference_max).sum())
    return probe
