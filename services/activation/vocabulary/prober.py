"""Answers ProbeVocabulary: checks a request, then goes through the vocabulary batch by batch.

Between two batches a caller that went away, or whose deadline passed, ends the probe: its task is
cancelled by the server.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saexplain.activation.v1 import activation_pb2 as pb
from services.activation.catalog import Catalog
from services.activation.encoder.identity import digest
from services.activation.encoder.rows import DenseRow, SparseRow
from services.activation.encoder.tokenizer import TextLimits, TextTokenizer
from services.activation.requests import (
    check_features,
    check_range,
    check_token_ids,
    tokenize_inputs,
)
from services.activation.vocabulary import messages
from services.activation.vocabulary.carriers import (
    Carrier,
    CarrierKind,
    bare_carrier,
    short_carriers,
)
from services.activation.vocabulary.limits import ProbeLimits
from services.activation.vocabulary.source import ContinuationSource
from services.activation.vocabulary.tops import TopTokens
from services.common.errors import InvalidArgument, ResourceExhausted
from services.common.names import parse_sae
from services.common.tensors import to_tensor

MAX_TOP_COUNT = 256
_RETRY_SECONDS = 10.0


@dataclass(frozen=True)
class _Asked:
    sae_id: str
    tokenizer: TextTokenizer
    carriers: tuple[Carrier, ...]
    features: tuple[int, ...]
    """Named ones; empty for all."""
    feature_count: int
    """Columns of an answer."""
    tokens: NDArray[np.int64]
    top_count: int
    """0 where all values are wanted."""
    fingerprints: dict[str, str]

    def key(self, carrier: Carrier) -> str:
        """Equal keys, equal values."""
        return digest([self.fingerprints, list(carrier.ids), self.tokens.tolist()])


class VocabularyProber:
    """See the module's docstring.

    Args:
        catalog: SAEs and tokenizers.
        source: Who computes.
        limits: What is admitted.
    """

    def __init__(self, catalog: Catalog, source: ContinuationSource, limits: ProbeLimits) -> None:
        self._catalog = catalog
        self._source = source
        self._limits = limits
        self._running = 0

    async def probe(
        self, request: pb.ProbeVocabularyRequest
    ) -> AsyncIterator[pb.ProbeVocabularyResponse]:
        """Pages and progress, carrier by carrier.

        Raises:
            InvalidArgument: See the contract.
            ResourceExhausted: QUEUE_FULL.
        """
        asked = await self._check(request)
        if self._running >= self._limits.max_running:
            raise ResourceExhausted(
                f"{self._running} probes of the vocabulary are running, which is the limit",
                retry_after_seconds=_RETRY_SECONDS,
                reason="QUEUE_FULL",
            )
        self._running += 1
        try:
            for place in range(len(asked.carriers)):
                async for message in self._behind(asked, place):
                    yield message
        finally:
            self._running -= 1

    async def _behind(self, asked: _Asked, place: int) -> AsyncIterator[pb.ProbeVocabularyResponse]:
        carrier, total = asked.carriers[place], len(asked.tokens)
        yield pb.ProbeVocabularyResponse(
            carrier_index=place,
            carrier=messages.carrier(carrier, asked.tokenizer.vocabulary_bytes),
            total_token_count=total,
            backend=self._source.name,
            key=asked.key(carrier),
        )
        tops = TopTokens(asked.feature_count, asked.top_count) if asked.top_count else None
        for start in range(0, total, self._limits.batch_tokens):
            tokens = asked.tokens[start : start + self._limits.batch_tokens]
            response = pb.ProbeVocabularyResponse(
                carrier_index=place,
                done_token_count=start + len(tokens),
                total_token_count=total,
            )
            if tops is None:
                values = await self._dense(asked, carrier, tokens)
                response.values.token_ids.CopyFrom(to_tensor(tokens.astype(np.int32)))
                response.values.activations.CopyFrom(to_tensor(values))
            else:
                tops.add(tokens, await self._sparse(asked, carrier, tokens))
            yield response
        if tops is not None:
            features = asked.features or range(asked.feature_count)
            for page in messages.top_pages(tops.result(), features, self._limits.page_features):
                yield pb.ProbeVocabularyResponse(
                    carrier_index=place,
                    done_token_count=total,
                    total_token_count=total,
                    top_tokens=page,
                )

    async def _dense(self, asked: _Asked, carrier: Carrier, tokens: NDArray[np.int64]) -> DenseRow:
        row = carrier.row(asked.tokenizer)
        return await self._source.dense(asked.sae_id, row, tokens, asked.features)

    async def _sparse(
        self, asked: _Asked, carrier: Carrier, tokens: NDArray[np.int64]
    ) -> SparseRow:
        """Entries whose feature is the column of the answer."""
        if not asked.features:
            row = carrier.row(asked.tokenizer)
            return await self._source.sparse(asked.sae_id, row, tokens)
        values = await self._dense(asked, carrier, tokens)
        rows, columns = np.nonzero(values > 0)
        counts = np.bincount(rows, minlength=len(tokens))
        return SparseRow(
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            columns.astype(np.int32),
            values[rows, columns],
        )

    async def _check(self, request: pb.ProbeVocabularyRequest) -> _Asked:
        sae_id = parse_sae(request.sae, "sae")
        tokenizer = await self._catalog.tokenizer(sae_id)
        description = await self._catalog.describe(sae_id)
        features = tuple(request.feature_indices)
        if features:
            check_features(features, description.d_sae, self._limits.max_features)
        size = min(tokenizer.vocabulary_size, description.vocabulary_size)
        return _Asked(
            sae_id,
            tokenizer,
            self._carriers(request.carriers, tokenizer),
            features,
            len(features) or description.d_sae,
            _tokens(request.token_ids, size),
            _top_count(request),
            description.fingerprints.as_dict(),
        )

    def _carriers(
        self, inputs: Sequence[pb.CarrierInput], tokenizer: TextTokenizer
    ) -> tuple[Carrier, ...]:
        if not inputs:
            return short_carriers(tokenizer)
        check_range(len(inputs), 1, self._limits.max_carriers, "carriers")
        return tuple(self._carrier(place, given, tokenizer) for place, given in enumerate(inputs))

    def _carrier(self, place: int, given: pb.CarrierInput, tokenizer: TextTokenizer) -> Carrier:
        kind = given.WhichOneof("input")
        if kind == "bare" and given.bare:
            return bare_carrier()
        text = pb.TextInput()
        if kind == "text":
            text.text = given.text
        elif kind == "token_ids":
            text.token_ids.CopyFrom(given.token_ids)
        # One token of the model's length is the probed one.
        limits = TextLimits(self._limits.text.max_text_bytes, self._limits.text.max_tokens - 1)
        try:
            found = tokenize_inputs([text], tokenizer, limits, 1)[0]
        except InvalidArgument as error:
            raise InvalidArgument(error.message, f"carriers[{place}]", error.reason) from error
        ids = tuple(found.ids[found.prefix_count :].tolist())
        return Carrier(f"custom-{place + 1}", CarrierKind.CUSTOM, ids)


def _tokens(given: Sequence[int], vocabulary_size: int) -> NDArray[np.int64]:
    if not given:
        return np.arange(vocabulary_size, dtype=np.int64)
    tokens = np.array(check_token_ids(given, vocabulary_size, vocabulary_size), dtype=np.int64)
    if len(np.unique(tokens)) != len(tokens):
        raise InvalidArgument("a token is repeated", "token_ids")
    return tokens


def _top_count(request: pb.ProbeVocabularyRequest) -> int:
    kind = request.WhichOneof("selection")
    if kind == "top_count":
        return check_range(request.top_count, 1, MAX_TOP_COUNT, "top_count")
    if kind != "all_values" or not request.all_values:
        raise InvalidArgument("either top_count or all_values is needed", "selection")
    if not request.feature_indices:
        raise InvalidArgument("all_values needs the features by name", "feature_indices")
    return 0
