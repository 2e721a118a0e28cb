"""The calls of an index build. A shard's stream of progress goes into the row."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from google.protobuf import json_format
from temporalio import activity

from saexplain.activation.v1 import activation_pb2
from saexplain.explanation.v1 import explanation_pb2
from services.common.errors import Unavailable
from services.common.grpc_client import rpc_errors
from services.common.names import parse_index
from services.orchestrator.activities.calls import unary
from services.orchestrator.activity_shell import remaining_seconds
from services.orchestrator.clients import Services
from services.orchestrator.records import BuildIndexOutput, IndexCall, IndexPlan
from services.orchestrator.store.indexes import IndexStore, ShardProgress

PROGRESS_SECONDS = 1.0
"""A shard's progress is written at most so often, and once at its end."""


class IndexingActivities:
    """Calls of the indexer."""

    def __init__(self, services: Services, store: IndexStore, now: Callable[[], datetime]) -> None:
        self._services = services
        self._store = store
        self._now = now

    @activity.defn(name="plan_index")
    async def plan_index(self, call: IndexCall) -> IndexPlan:
        """PlanIndex: reads the corpus, says which shards there are; the build now runs."""
        await self._store.begin(call.index, self._now())
        request = activation_pb2.PlanIndexRequest(config=_config(call))
        planned = await unary(self._services.indexer.PlanIndex, request)
        await self._store.planned(call.index, planned.key, planned.token_count)
        return IndexPlan(
            key=planned.key,
            shard_count=planned.shard_count,
            token_count=planned.token_count,
            built=planned.built,
        )

    @activity.defn(name="index_shard")
    async def index_shard(self, call: IndexCall) -> None:
        """IndexShard: sweeps one shard.

        Raises:
            Unavailable: the stream ended before the shard was done.
        """
        request = activation_pb2.IndexShardRequest(
            config=_config(call),
            key=call.key,
            shard=call.shard,
            shard_count=call.shard_count,
        )
        written = float("-inf")
        done = False
        async with rpc_errors():
            stream = self._services.indexer.IndexShard(request, timeout=remaining_seconds())
            async for progress in stream:
                done = progress.done
                if done or time.monotonic() - written >= PROGRESS_SECONDS:
                    written = time.monotonic()
                    await self._write(call, progress)
        if not done:
            raise Unavailable(f"the sweep of shard {call.shard} broke off")

    @activity.defn(name="merge_index")
    async def merge_index(self, call: IndexCall) -> BuildIndexOutput:
        """MergeIndex and AnnotateIndex: one index from all shards, with its vocabulary probe
        and its facts beside it; ends the build well. Both are there at once after a repeat.

        Raises:
            Unavailable: the stream ended before the annotations were stored.
        """
        request = activation_pb2.MergeIndexRequest(
            config=_config(call),
            key=call.key,
            shard_count=call.shard_count,
            index_id=parse_index(call.index)[1],
        )
        merged = await unary(self._services.indexer.MergeIndex, request)
        await self._annotate(call, merged.key)
        await self._store.succeed(
            call.index, merged.summary, merged.artifact_fingerprint, self._now()
        )
        return BuildIndexOutput(key=merged.key, artifact_fingerprint=merged.artifact_fingerprint)

    @activity.defn(name="end_index")
    async def end_index(self, call: IndexCall) -> None:
        """Ends a build without an index: failed, with its reason, or cancelled."""
        failure = None
        if not call.cancelled:
            failure = explanation_pb2.RunFailure(
                reason=call.reason, message=call.message, step=call.step
            )
        await self._store.end(call.index, failure, self._now())

    async def _annotate(self, call: IndexCall, key: str) -> None:
        request = activation_pb2.AnnotateIndexRequest(config=_config(call), key=key)
        done = False
        async with rpc_errors():
            stream = self._services.indexer.AnnotateIndex(request, timeout=remaining_seconds())
            async for progress in stream:
                done = progress.done
        if not done:
            raise Unavailable("the annotation of the index broke off")

    async def _write(self, call: IndexCall, progress: activation_pb2.IndexShardResponse) -> None:
        shard = ShardProgress(
            done_token_count=progress.done_token_count,
            tokens_per_second=progress.tokens_per_second,
            done=progress.done,
        )
        await self._store.progress(call.index, call.shard, shard)


def _config(call: IndexCall) -> activation_pb2.IndexConfig:
    return json_format.Parse(call.config, activation_pb2.IndexConfig())
