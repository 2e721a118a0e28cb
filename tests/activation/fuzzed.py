"""Fires generated volleys at a front that serves in this process, for the tests."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as fuzzing
from hypothesis import strategies as st

from saexplain.activation.v1 import activation_pb2 as pb
from services.activation.settings import ActivationSettings
from tests.activation.fuzz import Shot, Tally, canary, fire, shots
from tests.activation.stack import front_channel, indexer_stub


def check_front(chosen: ActivationSettings, corpus: Path, *, volleys: int, size: int) -> None:
    """Assert that generated calls are answered, typed, and change nothing for others."""
    tally = Tally()
    with asyncio.Runner() as runner:
        runner.run(build_index(chosen, corpus))
        front = front_channel(chosen)
        channel = runner.run(front.__aenter__())
        try:
            expected = runner.run(canary(channel))

            @fuzzing(
                max_examples=volleys,
                derandomize=True,
                database=None,
                deadline=None,
                phases=(Phase.generate,),
                suppress_health_check=list(HealthCheck),
            )
            @given(st.lists(shots(), min_size=size, max_size=size))
            def volley(drawn: list[Shot]) -> None:
                runner.run(fire(channel, drawn, tally))
                assert runner.run(canary(channel)) == expected
                assert not tally.defects
                assert not tally.untyped

            volley()
        finally:
            runner.run(front.__aexit__(None, None, None))
    assert tally.codes["OK"] > volleys  # a fuzz that only ever meets the door guards nothing
    assert len(tally.reasons) >= 6


async def build_index(chosen: ActivationSettings, corpus: Path) -> None:
    """An index of one SAE, so that what reads an index is reached too."""
    config = pb.IndexConfig(
        sae="saes/tiny-relu",
        corpus=str(corpus),
        context_token_count=48,
        window_token_count=12,
    )
    async with indexer_stub(chosen) as stub:
        plan = await stub.PlanIndex(pb.PlanIndexRequest(config=config))
        for shard in range(plan.shard_count):
            request = pb.IndexShardRequest(
                config=config, key=plan.key, shard=shard, shard_count=plan.shard_count
            )
            _ = [step async for step in stub.IndexShard(request)]
        await stub.MergeIndex(
            pb.MergeIndexRequest(config=config, key=plan.key, shard_count=plan.shard_count)
        )
