"""What every activity of a run shares: stubs, artifacts, store, clock, and the two
habits that make a repeat harmless. `keep` looks for what an earlier attempt stored
before it computes anything; `note` appends a step's event once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from google.protobuf.message import Message
from temporalio import activity

from saexplain.common.v1 import experiment_pb2, usage_pb2
from saexplain.explanation.v1 import dossier_pb2, explanation_pb2
from services.common.artifacts import ArtifactRef, ArtifactStore
from services.common.errors import ResourceExhausted
from services.common.names import parse_explanation, parse_project
from services.orchestrator.clients import Services
from services.orchestrator.records import StepCall
from services.orchestrator.store.explanations import ExplanationStore

_M = TypeVar("_M", bound=Message)

STEP_MESSAGE_BYTES = 8 * 2**20
"""Largest message of a step; larger ones are refused before they are sent."""


def artifact_prefix(explanation: str) -> str:
    """Where the artifacts of an explanation are: `{project}/{explanation}`."""
    project, explanation_id = parse_explanation(explanation)
    return f"{parse_project(project)}/{explanation_id}"


def step_key(step: str, call: StepCall) -> str:
    """A step's name with what tells its calls apart; names its artifact and its event."""
    return f"{step}.{call.round}.{call.ordinal}.{call.chunk}"


@dataclass(frozen=True)
class Workspace:
    """Collaborators of the activities.

    Attributes:
        services: stubs of the other services.
        artifacts: intermediate results.
        store: rows and events.
        now: the clock.
    """

    services: Services
    artifacts: ArtifactStore
    store: ExplanationStore
    now: Callable[[], datetime]

    async def load(self, ref: ArtifactRef, message_type: type[_M]) -> _M:
        """Reads an artifact as a message."""
        return message_type.FromString(await self.artifacts.get(ref))

    async def plan(self, call: StepCall) -> dossier_pb2.Plan:
        """The frozen plan of a run."""
        return await self.load(call.plan, dossier_pb2.Plan)

    async def keep(
        self,
        call: StepCall,
        step: str,
        message_type: type[_M],
        compute: Callable[[], Awaitable[_M]],
    ) -> tuple[_M, ArtifactRef]:
        """What a step gives, computed at most once: an earlier attempt's artifact is read
        back, and of two attempts that race the first stored one counts for both."""
        path = f"{artifact_prefix(call.explanation)}/{step_key(step, call)}"
        found = await self.artifacts.find(path)
        if found is not None:
            return await self.load(found, message_type), found
        message = await compute()
        data = message.SerializeToString(deterministic=True)
        ref = await self.artifacts.put(path, data)
        return await self.load(ref, message_type), ref

    async def note(
        self,
        call: StepCall,
        step: str,
        message: str,
        *,
        usage: usage_pb2.LlmUsage | None = None,
        hypotheses: Iterable[experiment_pb2.Hypothesis] = (),
        probe_count: int = 0,
        label: str = "",
    ) -> None:
        """Appends the event of a step.

        Args:
            label: the step's name for readers, where it is not `step`.
        """
        event = explanation_pb2.ExplanationEvent(
            step=label or step,
            round=call.round,
            message=message,
            hypotheses=[summarize(hypothesis) for hypothesis in hypotheses],
        )
        key = step_key(step, call)
        await self.store.append(call.explanation, key, event, self.now(), usage, probe_count)


def summarize(hypothesis: experiment_pb2.Hypothesis) -> explanation_pb2.HypothesisSummary:
    """A hypothesis in a line."""
    tally = hypothesis.tally
    status = experiment_pb2.HypothesisStatus.Name(hypothesis.status)
    return explanation_pb2.HypothesisSummary(
        id=hypothesis.id,
        statement=hypothesis.statement[:200],
        status=status.removeprefix("HYPOTHESIS_STATUS_"),
        positive_passed_count=tally.positive_passed_count,
        positive_count=tally.positive_count,
        negative_passed_count=tally.negative_passed_count,
        negative_count=tally.negative_count,
    )


def scope(call: StepCall, step: str) -> usage_pb2.JournalScope:
    """The journal's key of a step."""
    return usage_pb2.JournalScope(
        owner=call.explanation,
        step=step,
        round=call.round,
        ordinal=call.ordinal * 1000 + call.chunk,
    )


def check_size(message: Message, what: str) -> None:
    """Refuses a message that the other side would not take.

    Raises:
        ResourceExhausted: MESSAGE_TOO_LARGE.
    """
    size = message.ByteSize()
    if size > STEP_MESSAGE_BYTES:
        raise ResourceExhausted(
            f"{what} has {size} bytes, more than {STEP_MESSAGE_BYTES}", "MESSAGE_TOO_LARGE"
        )


def attempt() -> int:
    """Which attempt of the running activity this is, from 1."""
    return activity.info().attempt
