"""Scoring, the same in ExplainFeature and ScoreExplanation: every method of the plan, side by
side, on HELDOUT."""

from __future__ import annotations

import asyncio

from temporalio.exceptions import ActivityError

from services.orchestrator.records import ArtifactRef
from services.orchestrator.workflows.failures import reason_of
from services.orchestrator.workflows.steps import TOLERATED, Steps, artifact_of


async def explain_other(steps: Steps, other_feature: str) -> ArtifactRef | None:
    """The explanation of a density-matched other feature, where it can be had: a baseline.

    Args:
        other_feature: its name; empty where there is none.
    """
    version = steps.plan.baseline_explainer_version
    if not (other_feature and version):
        return None
    try:
        evidence = await steps.run("list_other_exemplars", "facts")
        call = steps.call(note=version, inputs={"evidence": artifact_of(evidence)})
        proposed = await steps.run_call("propose_other", call)
    except ActivityError as error:
        if reason_of(error)[0] in TOLERATED:
            return None
        raise
    return proposed.artifact if proposed.has_pattern else None


async def score_methods(steps: Steps, other: ArtifactRef | None) -> dict[str, str]:
    """Leaves an artifact `score.{place}` per method that could be run.

    Args:
        other: the explanation of another feature, for the baseline of that name.

    Returns:
        What could not be run, by its place in the plan: reason and message. That is a
        method's own failure, not the run's.
    """
    steps.refs["catalog"] = steps.plan.methods_catalog
    windows = await steps.run("list_score_windows", "explanation", "catalog")
    steps.refs["score_windows"] = artifact_of(windows)
    failures: dict[str, str] = {}

    async def one(place: int) -> None:
        try:
            steps.refs[f"score.{place}"] = await _score(steps, place, other)
        except ActivityError as error:
            reason, message = reason_of(error)
            if reason not in TOLERATED:
                raise
            failures[str(place)] = f"{reason}: {message}"

    await asyncio.gather(*(one(place) for place in range(len(steps.plan.methods))))
    return failures


async def _score(steps: Steps, place: int, other: ArtifactRef | None) -> ArtifactRef:
    """Plans one method, measures and judges what it asks for, and scores."""
    inputs = steps.inputs("facts", "explanation", "catalog", "score_windows")
    if other is not None:
        inputs["other"] = other
    call = steps.call(ordinal=place, inputs=inputs)
    planned = await steps.run_call("plan_score", call)
    inputs = {**inputs, "plan_score": artifact_of(planned)}
    narrow = call.model_copy(
        update={"inputs": {role: inputs[role] for role in ("explanation", "plan_score")}}
    )
    wanted = {}
    if planned.count:
        wanted["encoded"] = steps.run_call("encode_texts", narrow)
    if planned.item_count:
        asks = steps.plan.methods[place].asks_llm
        run = steps.run_call if asks else steps.run_local_call
        wanted["judged"] = run("judge", narrow)
    for role, result in zip(wanted, await asyncio.gather(*wanted.values()), strict=True):
        inputs[role] = artifact_of(result)
    scored = await steps.run_call("score", call.model_copy(update={"inputs": inputs}))
    return artifact_of(scored)
