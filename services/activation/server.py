"""The gRPC face of the front: converts, delegates, converts back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from saexplain.activation.v1 import activation_pb2 as pb
from saexplain.common.v1 import text_pb2, window_pb2
from services.activation import messages
from services.activation.admission import Admission
from services.activation.catalog import Catalog
from services.activation.encoder.rows import DenseRow, SparseRow
from services.activation.encoder.tokenizer import TokenizedText
from services.activation.engine import Engine
from services.activation.facts_source import FactsSource
from services.activation.index.misses import nearest
from services.activation.listing import FeatureLister
from services.activation.pipeline import ahead
from services.activation.refusals import ServesNoIndexing
from services.activation.requests import (
    check_features,
    check_range,
    check_token_ids,
    pages,
    tokenize_inputs,
)
from services.activation.settings import ActivationSettings
from services.activation.vocabulary.neighbors import neighbors as token_neighbors
from services.activation.vocabulary.prober import VocabularyProber
from services.common.errors import InvalidArgument, ResourceExhausted
from services.common.names import parse_feature, parse_sae

Row = TypeVar("Row", DenseRow, SparseRow)
Page = TypeVar("Page", pb.EncodeResponse, pb.EncodeSparseResponse)

_PAGE_OVERHEAD_BYTES = 1_024
"""Of a message besides the one text that fills it."""
MAX_LEFT_TOKENS = 64
MAX_SELECTIONS = 16
MAX_WINDOWS = 1_000
MAX_TOP_K = 1_024


class ActivationServicer(ServesNoIndexing):
    """All methods but those that write an index; see the contract for what each does."""

    def __init__(
        self,
        catalog: Catalog,
        engine: Engine,
        facts: FactsSource,
        features: FeatureLister,
        prober: VocabularyProber,
        settings: ActivationSettings,
    ) -> None:
        self._catalog = catalog
        self._engine = engine
        self._facts = facts
        self._features = features
        self._prober = prober
        self._settings = settings
        self.admission = Admission(
            settings.max_queued_tokens, settings.max_queued_calls, lambda: engine.tokens_per_second
        )

    async def ListSaes(  # noqa: N802
        self, request: pb.ListSaesRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListSaesResponse:
        """SAEs by name, after ``page_token``."""
        size = check_range(request.page_size, 0, 1_000, "page_size") or 100
        names = sorted(n for n in self._catalog.registry.saes if n > request.page_token)
        saes = [await self._catalog.message(name, load=False) for name in names[:size]]
        more = names[size - 1] if len(names) > size else ""
        return pb.ListSaesResponse(saes=saes, next_page_token=more)

    async def GetSae(  # noqa: N802
        self, request: pb.GetSaeRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetSaeResponse:
        """One SAE, loaded."""
        return pb.GetSaeResponse(
            sae=await self._catalog.message(parse_sae(request.name), load=True)
        )

    async def Encode(  # noqa: N802
        self, request: pb.EncodeRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.EncodeResponse]:
        """Dense activations, page by page."""
        sae_id, texts = await self._texts(request.sae, request.texts)
        description = await self._catalog.describe(sae_id)
        features = check_features(
            request.feature_indices, description.d_sae, self._settings.max_features
        )

        def compute(run: range) -> Coroutine[Any, Any, list[DenseRow]]:
            return self._engine.encode(sae_id, [texts[index].ids for index in run], features)

        answer = self._pages(
            texts,
            self._page_tokens(len(features)),
            compute,
            lambda index, row: messages.encoded_text(index, texts[index], row),
            lambda: pb.EncodeResponse(backend=self._settings.backend),
        )
        async with contextlib.aclosing(answer):
            async for page in answer:
                yield page

    async def EncodeSparse(  # noqa: N802
        self, request: pb.EncodeSparseRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.EncodeSparseResponse]:
        """Sparse activations, page by page."""
        kind = request.WhichOneof("selection")
        if kind is None:
            raise InvalidArgument("either above or top_k is needed", "selection")
        if kind == "top_k":
            check_range(request.top_k, 1, MAX_TOP_K, "top_k")
        elif not request.above >= 0:  # also refuses NaN
            raise InvalidArgument(f"{request.above} is not >= 0", "above")
        sae_id, texts = await self._texts(request.sae, request.texts)
        description = await self._catalog.describe(sae_id)

        def compute(run: range) -> Coroutine[Any, Any, list[SparseRow]]:
            return self._engine.encode_sparse(sae_id, [texts[index].ids for index in run])

        def convert(index: int, row: SparseRow) -> pb.SparseEncodedText:
            kept = row.top(request.top_k) if kind == "top_k" else row.above(request.above)
            return messages.sparse_text(index, texts[index], kept)

        per_token = 2 * description.d_sae
        answer = self._pages(
            texts, self._page_tokens(per_token), compute, convert, pb.EncodeSparseResponse
        )
        async with contextlib.aclosing(answer):
            async for page in answer:
                yield page

    async def GetFeature(  # noqa: N802
        self, request: pb.GetFeatureRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetFeatureResponse:
        """Facts from index and weights."""
        return await self._features.one(request.name, request.index)

    async def ListFeatures(  # noqa: N802
        self, request: pb.ListFeaturesRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListFeaturesResponse:
        """A page of features."""
        return await self._features.many(request)

    async def GetVocabularyProbe(  # noqa: N802
        self, request: pb.GetVocabularyProbeRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetVocabularyProbeResponse:
        """The probe that is kept with the index."""
        return await self._features.probe(request.name, request.index)

    async def ProbeVocabulary(  # noqa: N802
        self, request: pb.ProbeVocabularyRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.ProbeVocabularyResponse]:
        """Tokens behind carriers, page by page."""
        async for response in self._prober.probe(request):
            yield response

    async def ListExemplars(  # noqa: N802
        self, request: pb.ListExemplarsRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListExemplarsResponse:
        """Windows of each selection."""
        ref = parse_feature(request.feature, "feature")
        if not 1 <= len(request.selections) <= MAX_SELECTIONS:
            message = f"between 1 and {MAX_SELECTIONS} selections are allowed"
            raise InvalidArgument(message, "selections", "TOO_MANY_ITEMS")
        left = check_range(
            request.left_context_token_count, 0, MAX_LEFT_TOKENS, "left_context_token_count"
        )
        for place, selection in enumerate(request.selections):
            _check_selection(selection, f"selections[{place}]")
        reader = await self._catalog.reader(ref.sae, request.index)
        tokenizer = await self._catalog.tokenizer(ref.sae)
        near: list[int] = []
        if not reader.keeps_near_misses and any(_asks_neighbors(s) for s in request.selections):
            _, cosines = await self._facts.feature(ref.sae, ref.index, tokenizer.vocabulary_size)
            near = nearest(cosines, ref.index).tolist()

        def list_windows(selection: window_pb2.WindowSelection) -> pb.WindowList:
            windows = reader.exemplars(
                ref.index,
                messages.parse_strategy(selection.strategy, "strategy"),
                messages.parse_split(selection.split, "split"),
                selection.count,
                seed=request.seed,
                left_token_count=left,
                rungs=messages.parse_rungs(selection, "rungs"),
                neighbors=near,
            )
            converted = [
                messages.corpus_window(
                    window, reader.key, selection.strategy, tokenizer.vocabulary_bytes
                )
                for window in windows
            ]
            return pb.WindowList(selection=selection, windows=converted)

        lists = [await asyncio.to_thread(list_windows, one) for one in request.selections]
        return pb.ListExemplarsResponse(lists=lists)

    async def SearchWindows(  # noqa: N802
        self, request: pb.SearchWindowsRequest, context: grpc.aio.ServicerContext
    ) -> pb.SearchWindowsResponse:
        """Windows with any of the tokens."""
        sae_id = parse_sae(request.sae, "sae")
        tokenizer = await self._catalog.tokenizer(sae_id)
        tokens = check_token_ids(request.token_ids, tokenizer.vocabulary_size, 64)
        split = messages.parse_split(request.split, "split")
        count = check_range(request.count, 1, MAX_WINDOWS, "count")
        left = check_range(
            request.left_context_token_count, 0, MAX_LEFT_TOKENS, "left_context_token_count"
        )
        reader = await self._catalog.reader(sae_id, request.index)
        windows, total = await asyncio.to_thread(
            reader.search, tokens, split, count, seed=request.seed, left_token_count=left
        )
        unspecified = window_pb2.WINDOW_STRATEGY_UNSPECIFIED
        return pb.SearchWindowsResponse(
            windows=[
                messages.corpus_window(w, reader.key, unspecified, tokenizer.vocabulary_bytes)
                for w in windows
            ],
            total_count=total,
        )

    async def ListTokenNeighbors(  # noqa: N802
        self, request: pb.ListTokenNeighborsRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListTokenNeighborsResponse:
        """Variants and neighbours of each token."""
        sae_id = parse_sae(request.sae, "sae")
        tokenizer = await self._catalog.tokenizer(sae_id)
        tokens = check_token_ids(request.token_ids, tokenizer.vocabulary_size, 256)
        count = check_range(request.count, 1, 50, "count")
        cosines = await self._facts.tokens(sae_id, tokens)
        pieces = tokenizer.vocabulary_bytes
        response = pb.ListTokenNeighborsResponse()
        for token, cosine in zip(tokens, cosines, strict=True):
            variants, neighbors = token_neighbors(token, cosine, tokenizer, count)
            response.neighbors.add(
                token=text_pb2.WeightedToken(token_id=token, token_bytes=pieces[token], weight=1.0),
                variants=messages.weighted_tokens(variants, pieces),
                neighbors=messages.weighted_tokens(neighbors, pieces),
            )
        return response

    def _page_tokens(self, numbers_per_token: int) -> int:
        """Tokens that are encoded together for one page, so that their values fit in memory."""
        fitting = self._settings.page_memory_bytes // (4 * numbers_per_token)
        return max(1, min(self._settings.page_token_count, fitting))

    async def _pages(
        self,
        texts: Sequence[TokenizedText],
        page_tokens: int,
        compute: Callable[[range], Coroutine[Any, Any, list[Row]]],
        convert: Callable[[int, Row], Any],
        new_page: Callable[[], Page],
    ) -> AsyncGenerator[Page, None]:
        """Answers of all texts in order, on pages of bounded size; admitted as a whole first."""
        page, size = new_page(), 0
        with self.admission.admit(sum(len(text.ids) for text in texts)):
            async with contextlib.aclosing(ahead(pages(texts, page_tokens), compute)) as found:
                async for run, rows in found:
                    for index, row in zip(run, rows, strict=True):
                        text = convert(index, row)
                        length = self._checked_size(text, index)
                        if size and size + length > self._settings.page_bytes:
                            yield page
                            page, size = new_page(), 0
                        page.texts.append(text)
                        size += length
        yield page

    def _checked_size(self, text: Message, index: int) -> int:
        """Bytes of one text's answer; refused where it alone is more than a message may be."""
        size, limit = text.ByteSize(), self._settings.max_message_bytes - _PAGE_OVERHEAD_BYTES
        if size > limit:
            raise ResourceExhausted(
                f"the answer to texts[{index}] takes {size} bytes, a message at most {limit}; ask "
                "for fewer features, a higher threshold or a shorter text",
                reason="MESSAGE_TOO_LARGE",
                metadata={"field": f"texts[{index}]"},
            )
        return size

    async def _texts(
        self, name: str, inputs: Sequence[pb.TextInput]
    ) -> tuple[str, list[TokenizedText]]:
        sae_id = parse_sae(name, "sae")
        tokenizer = await self._catalog.tokenizer(sae_id)
        settings = self._settings
        texts = await asyncio.to_thread(
            tokenize_inputs, inputs, tokenizer, settings.text_limits, settings.max_texts
        )
        return sae_id, texts


def _check_selection(selection: window_pb2.WindowSelection, field: str) -> None:
    messages.parse_strategy(selection.strategy, f"{field}.strategy")
    messages.parse_split(selection.split, f"{field}.split")
    check_range(selection.count, 1, MAX_WINDOWS, f"{field}.count")
    messages.parse_rungs(selection, f"{field}.rungs")


def _asks_neighbors(selection: window_pb2.WindowSelection) -> bool:
    return window_pb2.NEGATIVE_RUNG_NEIGHBOR in selection.rungs
