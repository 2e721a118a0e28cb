"""Step 7 of ExplainFeature: explanations are written and compete on SELECT.

With hypotheses there is a candidate per round that left something new standing, the last
ones if a policy limits them. Without any they are written independently of each other:
the first one tells what one costs, and so how many the tokens set aside for them buy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from temporalio.exceptions import ActivityError

from services.orchestrator.records import ArtifactRef
from services.orchestrator.workflows.failures import reason_of
from services.orchestrator.workflows.steps import TOLERATED, Steps, artifact_of, budget_stop

JUDGED_SHARE = 1.75
"""What a candidate that has rivals costs by what its synthesis costs: judging it on SELECT
takes about three quarters as much again (`benchmarks/llm_cost`)."""


@dataclass(frozen=True)
class Standing:
    """What stood after a round.

    Attributes:
        round: the round.
        key: what tells it apart from what stood after other rounds; empty for nothing.
        state: artifact with the `RunState`.
    """

    round: int
    key: str
    state: ArtifactRef


@dataclass(frozen=True)
class Written:
    """What became of the writing.

    Attributes:
        fragment: artifact with the candidates and their scores; None where there is none.
        stop: the budget that ended the writing; empty where none did.
    """

    fragment: ArtifactRef | None
    stop: str = ""


async def of_rounds(steps: Steps, standing: Sequence[Standing]) -> Written:
    """A candidate of the last round, and of rounds before it that left another set of
    hypotheses standing."""
    last = standing[-1]
    distinct = {entry.key: entry for entry in standing if entry.key}
    distinct.pop(last.key, None)
    rivals = sorted([*distinct.values(), last], key=lambda entry: entry.round)
    most = steps.plan.loop.candidate_count
    rivals = rivals[-most:] if most else rivals
    found = await asyncio.gather(*(_write(steps, e.round, 0, e.state) for e in rivals))
    return await _compared(steps, [entry.round for entry in rivals], found)


async def independent(steps: Steps) -> Written:
    """As many candidates as the policy allows in number and tokens, at least one."""
    most, tokens = steps.plan.loop.candidate_count, steps.plan.loop.candidate_token_count
    before = steps.used.llm_token_count
    first = await _write(steps, 0, 0, None)
    price = JUDGED_SHARE * (steps.used.llm_token_count - before)
    count = min(most, int(tokens // price)) if tokens and price else most
    others = await asyncio.gather(*(_write(steps, 0, ordinal, None) for ordinal in range(1, count)))
    return await _compared(steps, [0] * (1 + len(others)), [first, *others])


async def _write(
    steps: Steps, round_: int, ordinal: int, state: ArtifactRef | None
) -> ArtifactRef | ActivityError:
    """A synthesis, or what was in its way: a spent budget or a useless reply costs this
    candidate, not its rivals."""
    inputs = steps.inputs("evidence")
    if state is not None:
        inputs["state"] = state
    call = steps.call(round=round_, ordinal=ordinal, inputs=inputs)
    try:
        return artifact_of(await steps.run_call("synthesize", call))
    except ActivityError as error:
        if reason_of(error)[0] not in TOLERATED:
            raise
        return error


async def _compared(
    steps: Steps, rounds: Sequence[int], found: Sequence[ArtifactRef | ActivityError]
) -> Written:
    """The comparison of what was written.

    Raises:
        ActivityError: nothing was, for another reason than a spent budget.
    """
    written = [
        (number, entry)
        for number, entry in zip(rounds, found, strict=True)
        if isinstance(entry, ArtifactRef)
    ]
    errors = [entry for entry in found if isinstance(entry, ActivityError)]
    spent = [entry for entry in errors if reason_of(entry)[0] == "BUDGET_EXHAUSTED"]
    stop = budget_stop(spent[0]) if spent else ""
    if not written:
        if errors and not spent:
            raise errors[0]
        return Written(None, stop)
    call = steps.call(
        inputs=steps.inputs("facts", "windows"),
        lists={"syntheses": tuple(entry for _, entry in written)},
        numbers=tuple(number for number, _ in written),
    )
    return Written(artifact_of(await steps.run_call("compare_candidates", call)), stop)
