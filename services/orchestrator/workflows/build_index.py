"""The durable build of an index.

    1 plan    read the corpus: which shards there are, under which key
    2 sweep   the shards, a few at a time, unless the index is there
    3 merge   one artifact; the end of the row

The indexers keep the plan and every finished shard, so that a restart or another attempt
sweeps only the missing ones: whatever is killed, at most the shards in flight are lost.
"""

from __future__ import annotations

import asyncio

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from services.orchestrator import policies
    from services.orchestrator.records import (
        BuildIndexInput,
        BuildIndexOutput,
        IndexCall,
        IndexPlan,
    )
    from services.orchestrator.workflows.failures import reason_of


@workflow.defn(name="BuildIndex")
class BuildIndex:
    """One build of an index."""

    @workflow.run
    async def run(self, build: BuildIndexInput) -> BuildIndexOutput:
        """Plans, sweeps and merges; writes down the end, whatever it is."""
        self._build = build
        try:
            planned = await self._plan()
            if not planned.built:
                await self._sweep(planned)
            return await self._merge(planned)
        except BaseException as error:
            if is_cancelled_exception(error):
                await self._end(IndexCall(index=build.index, config=build.config, cancelled=True))
                raise
            if not isinstance(error, ActivityError):
                raise
            reason, message = reason_of(error)
            await self._end(
                IndexCall(
                    index=build.index,
                    config=build.config,
                    reason=reason,
                    message=message[:1000],
                    step=error.activity_type,
                )
            )
            raise ApplicationError(message, type=reason, non_retryable=True) from error

    async def _plan(self) -> IndexPlan:
        planned: IndexPlan = await workflow.execute_activity(
            "plan_index",
            IndexCall(index=self._build.index, config=self._build.config),
            result_type=IndexPlan,
            **policies.options("plan_index"),
        )
        return planned

    async def _sweep(self, planned: IndexPlan) -> None:
        at_once = asyncio.Semaphore(policies.SHARDS_AT_ONCE)

        async def one(shard: int) -> None:
            async with at_once:
                await workflow.execute_activity(
                    "index_shard",
                    self._call(planned, shard),
                    **policies.options("index_shard"),
                )

        await asyncio.gather(*(one(shard) for shard in range(planned.shard_count)))

    async def _merge(self, planned: IndexPlan) -> BuildIndexOutput:
        merged: BuildIndexOutput = await workflow.execute_activity(
            "merge_index",
            self._call(planned, 0),
            result_type=BuildIndexOutput,
            **policies.options("merge_index"),
        )
        return merged

    async def _end(self, call: IndexCall) -> None:
        await workflow.execute_local_activity(
            "end_index", call, **policies.local_options("end_index")
        )

    def _call(self, planned: IndexPlan, shard: int) -> IndexCall:
        return IndexCall(
            index=self._build.index,
            config=self._build.config,
            key=planned.key,
            shard=shard,
            shard_count=planned.shard_count,
        )
