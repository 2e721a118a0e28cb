"""Starts explanations and follows them all at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from saexplain.agent.v1.agent_pb2 import ExplainerOptions
from saexplain.common.v1.usage_pb2 import LlmUsage
from saexplain.explanation.v1 import explanation_pb2 as pb
from saexplain.explanation.v1.dossier_pb2 import Budget
from saexplain.scorer.v1.scorer_pb2 import MethodOptions
from saexplain_client import AsyncSaexplainClient, SaexplainClientError


@dataclass(frozen=True)
class ExplainRequest:
    """What to ask for, the same for all features.

    Attributes:
        explainer: explainer and its options.
        methods: empty for those that run by default.
        budget: None for the defaults.
        index: empty for the SAE's default index.
        seed: of every random choice.
        request_id: beginning of the request ids; the feature's index follows. Empty for
            fresh ones.
    """

    explainer: ExplainerOptions
    methods: Sequence[MethodOptions] = ()
    budget: Budget | None = None
    index: str = ""
    seed: int = 0
    request_id: str = ""


@dataclass
class FollowedRun:
    """One explanation as far as it is known; changes while it runs.

    Attributes:
        feature: what is explained.
        name: name of the explanation. Empty until it was accepted.
        step: the last step that was heard of.
        round: round of the loop.
        message: what the last event said.
        hypotheses: as the last event that told them had them.
        probe_count: probes measured so far.
        usage: what language models have cost so far.
        result: the explanation at its end. None before.
        error: why it was not accepted, or could not be followed. None if all went well.
    """

    feature: str
    name: str = ""
    step: str = "waiting"
    round: int = 0
    message: str = ""
    hypotheses: Sequence[pb.HypothesisSummary] = ()
    probe_count: int = 0
    usage: LlmUsage = field(default_factory=LlmUsage)
    result: pb.ExplanationResource | None = None
    error: SaexplainClientError | None = None

    @property
    def succeeded(self) -> bool:
        """True if it ended with a result."""
        return self.result is not None and self.result.state == pb.RUN_STATE_SUCCEEDED

    def take(self, event: pb.ExplanationEvent) -> None:
        """Brings the run up to date with an event."""
        self.step, self.round, self.message = event.step, event.round, event.message
        self.probe_count = event.probe_count
        if event.hypotheses:
            self.hypotheses = event.hypotheses
        if event.HasField("usage"):
            self.usage = event.usage


async def explain_all(
    client: AsyncSaexplainClient,
    runs: Sequence[FollowedRun],
    request: ExplainRequest,
    changed: Callable[[FollowedRun], None],
) -> None:
    """Starts an explanation for every run and follows each to its end.

    An error of one does not stop the others; it is kept in the run.

    Args:
        changed: called after every change of a run.
    """

    async def one(run: FollowedRun) -> None:
        try:
            await _explain(client, run, request, changed)
        except SaexplainClientError as error:
            run.error = error
        changed(run)

    await asyncio.gather(*(one(run) for run in runs))


async def _explain(
    client: AsyncSaexplainClient,
    run: FollowedRun,
    request: ExplainRequest,
    changed: Callable[[FollowedRun], None],
) -> None:
    index = run.feature.rpartition("/")[2]
    created = await client.create_explanation(
        run.feature,
        request.explainer,
        methods=request.methods,
        budget=request.budget,
        index=request.index,
        seed=request.seed,
        request_id=f"{request.request_id}-{index}" if request.request_id else None,
    )
    await followed(client, run, created.name, changed)


async def followed(
    client: AsyncSaexplainClient,
    run: FollowedRun,
    name: str,
    changed: Callable[[FollowedRun], None],
) -> None:
    """Follows a run that was accepted under a name to its end.

    Raises:
        SaexplainClientError: it cannot be followed.
    """
    run.name = name
    changed(run)
    async for event in client.watch_explanation(name):
        run.take(event)
        changed(run)
    run.result = await client.get_explanation(name)
