"""Carriers, probes and pages of a vocabulary probe as messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from saexplain.activation.v1 import activation_pb2 as pb
from saexplain.common.v1 import text_pb2, vocabulary_pb2
from services.activation.annotations.tables import CarrierTops
from services.activation.vocabulary.carriers import Carrier, CarrierKind
from services.activation.vocabulary.tops import Tops
from services.common.tensors import to_tensor

_KINDS = {
    CarrierKind.SHORT: vocabulary_pb2.CARRIER_KIND_SHORT,
    CarrierKind.EXEMPLAR: vocabulary_pb2.CARRIER_KIND_EXEMPLAR,
    CarrierKind.BARE: vocabulary_pb2.CARRIER_KIND_BARE,
    CarrierKind.CUSTOM: vocabulary_pb2.CARRIER_KIND_CUSTOM,
}


def carrier(carrier: Carrier, pieces: Sequence[bytes]) -> vocabulary_pb2.Carrier:
    """A carrier with the bytes of its tokens."""
    return vocabulary_pb2.Carrier(
        name=carrier.name,
        kind=_KINDS[carrier.kind],
        prefix=text_pb2.TokenSpan(
            token_ids=carrier.ids, token_bytes=[pieces[token] for token in carrier.ids]
        ),
    )


def carrier_probe(
    tops: CarrierTops, probed_token_count: int, reference_max: float, pieces: Sequence[bytes]
) -> vocabulary_pb2.CarrierProbe:
    """One feature behind one carrier; shares of the reference maximum where there is one."""
    message = vocabulary_pb2.CarrierProbe(
        carrier=carrier(tops.carrier, pieces),
        probed_token_count=probed_token_count,
        positive_token_count=tops.positive_count,
    )
    for token in tops.tokens:
        entry = message.top_tokens.add(
            token_id=token.index, token_bytes=pieces[token.index], activation=token.score
        )
        if reference_max > 0:
            entry.relative_activation = token.score / reference_max
    if reference_max > 0:
        message.active_token_count = tops.active_count
    return message


def top_pages(
    tops: Tops, features: Sequence[int], features_per_page: int
) -> Iterable[pb.TopTokensPage]:
    """The strongest tokens of all features, in pages."""
    indices = np.asarray(features, dtype=np.int32)
    for start in range(0, len(indices), features_per_page):
        part = slice(start, start + features_per_page)
        yield pb.TopTokensPage(
            feature_indices=to_tensor(indices[part]),
            token_ids=to_tensor(tops.token_ids[part]),
            activations=to_tensor(tops.values[part]),
            positive_token_counts=to_tensor(tops.positive[part]),
        )
