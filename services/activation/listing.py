"""Facts of features as messages: one of them, or many by filter, order and page."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from saexplain.activation.v1 import activation_pb2 as pb
from saexplain.common.v1 import feature_pb2
from services.activation import messages
from services.activation.annotations.library import AnnotationLibrary
from services.activation.annotations.tables import Annotations
from services.activation.catalog import Catalog
from services.activation.encoder.fact_records import FeatureFacts
from services.activation.encoder.identity import digest
from services.activation.facts_source import FactsSource
from services.activation.index.reader import IndexReader
from services.activation.requests import check_range
from services.activation.vocabulary import messages as vocabulary_messages
from services.common.call_context import current
from services.common.errors import FailedPrecondition, InvalidArgument
from services.common.names import FeatureRef, index_name, parse_feature, parse_sae

_BASIC_FIELDS = ("density", "max_activation", "reference_max", "stratum", "splits", "feature")


class FeatureLister:
    """What is known of features, from the index and from what is kept beside it.

    Args:
        catalog: SAEs with tokenizers and indexes.
        library: Annotations of indexes.
        facts: The weights, asked where an index has no annotations.
    """

    def __init__(self, catalog: Catalog, library: AnnotationLibrary, facts: FactsSource) -> None:
        self._catalog = catalog
        self._library = library
        self._facts = facts

    async def one(self, name: str, index: str) -> pb.GetFeatureResponse:
        """Facts of one feature: a lookup, or a pass over the weights without annotations."""
        ref = parse_feature(name)
        reader = await self._catalog.reader(ref.sae, index)
        reader.numbers(ref.index)  # refuses a feature out of range
        tokenizer = await self._catalog.tokenizer(ref.sae)
        kept = await self._kept_or_none(ref.sae, reader)
        if kept is not None:
            weights, matched = kept.facts(ref.index), kept.density_match(ref.index)
        else:
            weights, cosines = await self._facts.feature(
                ref.sae, ref.index, tokenizer.vocabulary_size
            )
            matched = messages.density_match(reader, ref.index, cosines)
        return pb.GetFeatureResponse(
            facts=_message(ref, reader, weights, tokenizer.vocabulary_bytes, matched),
            index=_index_name(index, reader),
        )

    async def probe(self, name: str, index: str) -> pb.GetVocabularyProbeResponse:
        """The vocabulary probe that is kept with an index.

        Raises:
            FailedPrecondition: ANNOTATION_NOT_BUILT.
        """
        ref = parse_feature(name)
        reader = await self._catalog.reader(ref.sae, index)
        reference = reader.numbers(ref.index).reference_max
        kept = await self._kept(ref.sae, reader)
        pieces = (await self._catalog.tokenizer(ref.sae)).vocabulary_bytes
        return pb.GetVocabularyProbeResponse(
            probes=[
                vocabulary_messages.carrier_probe(
                    tops, kept.header.probed_token_count, reference, pieces
                )
                for tops in kept.probe(ref.index)
            ],
            index=_index_name(index, reader),
        )

    async def many(self, request: pb.ListFeaturesRequest) -> pb.ListFeaturesResponse:
        """A page of features.

        Raises:
            InvalidArgument: FIELD_INVALID.
            FailedPrecondition: ANNOTATION_NOT_BUILT for the full view.
        """
        sae_id = parse_sae(request.sae, "sae")
        size = check_range(request.page_size, 0, 1_000, "page_size") or 100
        begin = _begin(request)
        reader = await self._catalog.reader(sae_id, request.index)
        chosen = _ordered(_filtered(request, reader), reader, request.order)
        page = chosen[begin : begin + size]
        kept = await self._kept(sae_id, reader) if _is_full(request) else None
        pieces = (await self._catalog.tokenizer(sae_id)).vocabulary_bytes
        facts = await asyncio.to_thread(_page, sae_id, page.tolist(), reader, kept, pieces)
        more = begin + size < len(chosen)
        return pb.ListFeaturesResponse(
            features=facts,
            next_page_token=f"{begin + size}.{_digest(request)}" if more else "",
            total_count=len(chosen),
            index=_index_name(request.index, reader),
        )

    async def _kept(self, sae_id: str, reader: IndexReader) -> Annotations:
        loaded = await self._catalog.describe(sae_id)
        return await asyncio.to_thread(
            self._library.read, reader.key, loaded.fingerprints, loaded.readout
        )

    async def _kept_or_none(self, sae_id: str, reader: IndexReader) -> Annotations | None:
        try:
            return await self._kept(sae_id, reader)
        except FailedPrecondition as error:
            if error.reason != "ANNOTATION_NOT_BUILT":
                raise
            return None


def _is_full(request: pb.ListFeaturesRequest) -> bool:
    if request.view not in pb.FeatureView.values():
        raise InvalidArgument(f"view {request.view} is not known", "view")
    return request.view == pb.FEATURE_VIEW_FULL


def _page(
    sae_id: str,
    features: Sequence[int],
    reader: IndexReader,
    kept: Annotations | None,
    pieces: Sequence[bytes],
) -> list[feature_pb2.FeatureFacts]:
    found = []
    for feature in features:
        ref = FeatureRef(sae_id, feature)
        if kept is not None:
            matched = kept.density_match(feature)
            found.append(_message(ref, reader, kept.facts(feature), pieces, matched))
            continue
        weights = FeatureFacts(feature, 0.0, (), (), ())
        message = _message(ref, reader, weights, pieces, None)
        for field, _ in message.ListFields():
            if field.name not in _BASIC_FIELDS:
                message.ClearField(field.name)  # type: ignore[arg-type]
        found.append(message)
    return found


def _message(
    ref: FeatureRef,
    reader: IndexReader,
    weights: FeatureFacts,
    pieces: Sequence[bytes],
    matched: int | None,
) -> feature_pb2.FeatureFacts:
    numbers = reader.numbers(ref.index)
    message = messages.feature_facts(ref, numbers, weights, pieces, matched)
    message.tokens_absent_reason = weights.tokens_absent_reason
    return message


def _filtered(request: pb.ListFeaturesRequest, reader: IndexReader) -> NDArray[np.int64]:
    density = reader.densities
    kept = np.ones(len(density), dtype=bool)
    if request.strata:
        wanted = {messages.parse_stratum(value, "strata") for value in request.strata}
        kept &= np.array([stratum in wanted for stratum in reader.strata], dtype=bool)
    for field in ("min_density", "max_density"):
        if request.HasField(field):
            bound = getattr(request, field)
            if not 0 <= bound <= 1:  # also refuses NaN
                raise InvalidArgument(f"{bound} is not in [0, 1]", field)
            kept &= density >= bound if field == "min_density" else density <= bound
    return np.flatnonzero(kept)


def _ordered(
    features: NDArray[np.int64], reader: IndexReader, order: pb.FeatureOrder.ValueType
) -> NDArray[np.int64]:
    if order in (pb.FEATURE_ORDER_UNSPECIFIED, pb.FEATURE_ORDER_INDEX):
        return features
    signs = {pb.FEATURE_ORDER_DENSITY_RISING: 1, pb.FEATURE_ORDER_DENSITY_FALLING: -1}
    if order not in signs:
        raise InvalidArgument(f"order {order} is not known", "order")
    rank = np.argsort(signs[order] * reader.densities[features], kind="stable")
    ordered: NDArray[np.int64] = features[rank]
    return ordered


def _digest(request: pb.ListFeaturesRequest) -> str:
    """What a page token belongs to: the request without its page."""
    same = pb.ListFeaturesRequest()
    same.CopyFrom(request)
    same.ClearField("page_token")
    same.ClearField("page_size")
    return digest(same.SerializeToString(deterministic=True).hex())[:16]


def _begin(request: pb.ListFeaturesRequest) -> int:
    if not request.page_token:
        return 0
    offset, _, of = request.page_token.partition(".")
    if of != _digest(request) or not (offset.isascii() and offset.isdigit()) or len(offset) > 12:
        raise InvalidArgument("the token is of another request", "page_token")
    return int(offset)


def _index_name(requested: str, reader: IndexReader) -> str:
    return requested or index_name(current().project, reader.key)
