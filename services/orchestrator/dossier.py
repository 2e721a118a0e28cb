"""Assembles the dossier: same plan, same replies, same bytes. Pure code.

Times, attempts and costs differ between runs and live in the `RunRecord`; so does what
the journal reused. Costs inside of method results are taken out for that reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from saexplain.agent.v1 import agent_pb2
from saexplain.common.v1 import score_pb2
from saexplain.explanation.v1 import dossier_pb2, explanation_pb2
from saexplain.scorer.v1 import scorer_pb2
from services.common.canonical import digest


@dataclass(frozen=True)
class DossierParts:
    """What the steps of a run stored.

    Attributes:
        plan: the frozen plan.
        evidence: what the explainer saw.
        chosen: fragment with candidates, explanation, its digest and the stop.
        measured: per round, a fragment with its results.
        decided: per round, the state after its verdicts.
        revised: per round that was followed by a revision, what that did.
        final_state: the last state; absent where there never was one.
        results: per method, by its place in the plan, what it gave.
        failures: per method that could not be run, by its place, why.
        catalog: the methods as the plan was frozen on them.
    """

    plan: dossier_pb2.Plan
    evidence: agent_pb2.Evidence
    chosen: dossier_pb2.Dossier
    measured: Sequence[dossier_pb2.Dossier]
    decided: Sequence[agent_pb2.RunState]
    revised: Sequence[agent_pb2.ReviseHypothesesResponse]
    final_state: agent_pb2.RunState | None
    results: Mapping[int, score_pb2.MethodResult]
    failures: Mapping[int, str]
    catalog: scorer_pb2.ListMethodsResponse


def assemble(parts: DossierParts) -> dossier_pb2.Dossier:
    """The dossier with its digest."""
    dossier = dossier_pb2.Dossier()
    dossier.CopyFrom(parts.chosen)
    dossier.plan.CopyFrom(parts.plan)
    dossier.evidence.CopyFrom(parts.evidence)
    dossier.facts.CopyFrom(parts.evidence.facts)
    for fragment in parts.measured:
        dossier.rounds.extend(fragment.rounds)
    if parts.evidence.HasField("ceiling"):
        dossier.ceiling = parts.evidence.ceiling.active_share
    for measured_round, state in zip(dossier.rounds, parts.decided, strict=False):
        measured_round.hypotheses.extend(state.hypotheses)
    for measured_round, revision in zip(dossier.rounds, parts.revised, strict=False):
        measured_round.operations.extend(revision.operations)
        measured_round.explainer_verdicts.extend(revision.verdicts)
    if parts.final_state is not None:
        dossier.hypotheses.extend(parts.final_state.hypotheses)
    dossier.results.extend(_results(parts))
    dossier.digest = ""
    dossier.digest = digest(dossier)
    return dossier


def scores_of(dossier: dossier_pb2.Dossier) -> explanation_pb2.ExplanationResource:
    """The scores without their rows, as the row of the explanation keeps them."""
    resource = explanation_pb2.ExplanationResource()
    for result in dossier.results:
        resource.scores.extend(result.scores)
    return resource


def _results(parts: DossierParts) -> list[score_pb2.MethodResult]:
    """One result per method of the plan, in its order."""
    results = []
    for place, options in enumerate(parts.plan.methods):
        if place in parts.results:
            result = score_pb2.MethodResult()
            result.CopyFrom(parts.results[place])
            result.ClearField("usage")
        elif place in parts.failures:
            result = _without_value(
                parts, options, score_pb2.SCORE_STATUS_FAILED, parts.failures[place]
            )
        else:
            result = _without_value(
                parts,
                options,
                score_pb2.SCORE_STATUS_UNDEFINED,
                "There is no explanation to score.",
            )
        results.append(result)
    return results


def _without_value(
    parts: DossierParts,
    options: scorer_pb2.MethodOptions,
    status: score_pb2.ScoreStatus.ValueType,
    reason: str,
) -> score_pb2.MethodResult:
    """A result that says of every metric of a method why there is no value."""
    metrics = [
        metric
        for entry in parts.catalog.methods
        if entry.name == options.method
        for metric in entry.metrics
    ]
    return score_pb2.MethodResult(
        method=options.method,
        scores=[
            score_pb2.Score(
                method=options.method,
                metric=metric,
                status=status,
                status_reason=reason,
                judge=options.llm.model if options.judge == "llm" else options.judge,
                seed=options.seed,
            )
            for metric in metrics
        ],
    )
