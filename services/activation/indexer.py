"""The gRPC face of an indexer: the methods that write an index and what is kept beside it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, TypeVar

import grpc

from saexplain.activation.v1 import activation_pb2 as pb
from services.activation import messages
from services.activation.annotating import IndexAnnotator
from services.activation.index.config import IndexConfig
from services.activation.index.corpora.documents import ColumnNames
from services.activation.index.corpus import CorpusSpec
from services.activation.index.sweep import Progress
from services.activation.indexing import IndexBuilder, IndexRequest
from services.activation.refusals import ServesIndexingOnly
from services.activation.requests import check_range
from services.common.errors import InvalidArgument
from services.common.names import index_name, parse_index, parse_sae

T = TypeVar("T")

_DEFAULT_SHARD_TOKENS = 250_000
_MIN_SHARD_TOKENS = 1_000
_REPORT_SECONDS = 0.5
"""Progress is sent at most so often."""


class IndexerServicer(ServesIndexingOnly):
    """PlanIndex, IndexShard, MergeIndex, AnnotateIndex. One of them runs at a time; others wait
    their turn."""

    def __init__(
        self, builder: IndexBuilder, annotator: IndexAnnotator, clock: Callable[[], float]
    ) -> None:
        self._builder = builder
        self._annotator = annotator
        self._clock = clock
        self._turn = asyncio.Lock()

    async def PlanIndex(  # noqa: N802
        self, request: pb.PlanIndexRequest, context: grpc.aio.ServicerContext
    ) -> pb.PlanIndexResponse:
        """Key and shards of an index."""
        wanted = index_request(request.config)
        tokens = request.shard_token_count or _DEFAULT_SHARD_TOKENS
        check_range(tokens, _MIN_SHARD_TOKENS, 2**40, "shard_token_count")
        async with self._turn:
            planned = await _stoppable(partial(self._builder.plan, wanted, tokens))
        return pb.PlanIndexResponse(
            key=planned.key,
            shard_count=planned.shard_count,
            token_count=planned.token_count,
            document_count=planned.document_count,
            built=planned.built,
        )

    async def IndexShard(  # noqa: N802
        self, request: pb.IndexShardRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.IndexShardResponse]:
        """Progress of one shard; the sweep stops when the caller goes away."""
        wanted = index_request(request.config)
        check_range(request.shard_count, 1, 2**20, "shard_count")
        check_range(request.shard, 0, request.shard_count - 1, "shard")
        sweep = partial(
            self._builder.shard, wanted, request.key, request.shard, request.shard_count
        )
        last: Progress | None = None
        async with self._turn:
            async for progress in _reports(sweep, self._clock):
                last = progress
                yield _progress(progress, done=False)
        if last is not None:
            yield _progress(last, done=True)

    async def MergeIndex(  # noqa: N802
        self, request: pb.MergeIndexRequest, context: grpc.aio.ServicerContext
    ) -> pb.MergeIndexResponse:
        """Merge finished shards."""
        wanted = index_request(request.config)
        check_range(request.shard_count, 1, 2**20, "shard_count")
        if request.index_id:
            parse_index(index_name("projects/default", request.index_id), "index_id")
        merge = partial(
            self._builder.merge, wanted, request.key, request.shard_count, request.index_id
        )
        async with self._turn:
            files = await _stoppable(merge)
        return pb.MergeIndexResponse(
            key=files.manifest["key"],
            artifact_fingerprint=files.fingerprint,
            summary=messages.index_summary(files.manifest),
        )

    async def AnnotateIndex(  # noqa: N802
        self, request: pb.AnnotateIndexRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.AnnotateIndexResponse]:
        """Progress of what is kept beside an index; it stops when the caller goes away."""
        wanted = index_request(request.config)
        fingerprints: list[str] = []

        def annotate(**how: Any) -> None:
            found = self._annotator.annotate(wanted.sae_id, request.key, wanted.config, **how)
            fingerprints.append(found)

        done = total = 0
        async with self._turn:
            async for progress in _reports(annotate, self._clock):
                done, total = progress.done_rows, progress.total_rows
                yield pb.AnnotateIndexResponse(done_row_count=done, total_row_count=total)
        yield pb.AnnotateIndexResponse(
            done_row_count=done,
            total_row_count=total,
            done=True,
            artifact_fingerprint=fingerprints[0],
        )


async def _reports(work: Callable[..., Any], clock: Callable[[], float]) -> AsyncIterator[Any]:
    """What blocking work reports, thinned, until it has ended; raises what it raises. The work
    takes ``report`` and ``cancelled``, and is stopped and waited for when the caller goes away."""
    stop = threading.Event()
    queue: asyncio.Queue[Any] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def report(progress: Any) -> None:
        loop.call_soon_threadsafe(queue.put_nowait, progress)

    def run() -> None:
        try:
            work(cancelled=stop.is_set, report=report)
        finally:
            report(None)

    running = asyncio.create_task(asyncio.to_thread(run))
    try:
        async for progress in _thinned(queue, clock):
            yield progress
        await running
    finally:
        stop.set()
        await asyncio.wait([running])


async def _stoppable(work: Callable[..., T]) -> T:
    """Run in a thread what asks ``cancelled``; where the caller goes away, wait until it has
    stopped, so that one thing at a time runs."""
    stop = threading.Event()
    running = asyncio.create_task(asyncio.to_thread(work, cancelled=stop.is_set))
    try:
        return await asyncio.shield(running)
    finally:
        stop.set()
        await asyncio.wait([running])


def index_request(config: pb.IndexConfig) -> IndexRequest:
    """The index that a message means. InvalidArgument: FIELD_INVALID, naming the field."""
    if not config.corpus:
        raise InvalidArgument("a corpus is needed", "config.corpus")
    context = config.context_token_count or 128
    window = config.window_token_count or 32
    check_range(context, 16, 4_096, "config.context_token_count")
    check_range(window, 8, min(255, context - 1), "config.window_token_count")
    check_range(config.max_document_count, 0, 2**62, "config.max_document_count")
    return IndexRequest(
        sae_id=parse_sae(config.sae, "config.sae"),
        corpus=CorpusSpec(
            location=config.corpus,
            max_documents=config.max_document_count,
            columns=ColumnNames(
                id=config.id_column,
                source=config.source_column,
                kind=config.kind_column,
                text=config.text_column,
            ),
        ),
        config=IndexConfig(
            context_token_count=context,
            window_token_count=window,
            min_window_token_count=min(8, window),
            seed=config.seed,
        ),
    )


async def _thinned(queue: asyncio.Queue[Any], clock: Callable[[], float]) -> AsyncIterator[Any]:
    """What the queue brings until None, with pauses; the first and the last always."""
    sent, held = -_REPORT_SECONDS, None
    while (progress := await queue.get()) is not None:
        held = progress
        if clock() - sent >= _REPORT_SECONDS:
            sent, held = clock(), None
            yield progress
    if held is not None:
        yield held


def _progress(progress: Progress, *, done: bool) -> pb.IndexShardResponse:
    return pb.IndexShardResponse(
        done_token_count=progress.done_tokens,
        total_token_count=progress.total_tokens,
        tokens_per_second=progress.tokens_per_second,
        done=done,
    )
