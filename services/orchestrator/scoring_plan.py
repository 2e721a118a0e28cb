"""Freezes the plan of a run that only scores: the plan of an import, with what it scores."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.engine import RowMapping

from saexplain.agent.v1 import agent_pb2
from saexplain.common.v1 import explanation_pb2 as common
from saexplain.explanation.v1 import dossier_pb2, explanation_pb2
from services.common.canonical import digest
from services.common.errors import FailedPrecondition, InvalidArgument
from services.common.given_explanation import accepted
from services.common.names import explanation_name
from services.orchestrator.plan import Frozen, Planner
from services.orchestrator.selecting import SCORABLE

_EXPLAINER = "import"


@dataclass(frozen=True)
class Subject:
    """What is to be scored.

    Attributes:
        feature: `saes/{sae}/features/{index}`.
        explanation: as it is scored.
        index: its index; empty for the SAE's default.
        name: of the explanation it comes from; empty for one from elsewhere.
        explainer: options of who wrote it; None for one from elsewhere.
    """

    feature: str
    explanation: common.Explanation
    index: str = ""
    name: str = ""
    explainer: agent_pb2.ExplainerOptions | None = None


def given(request: explanation_pb2.GivenExplanation) -> Subject:
    """An explanation from elsewhere.

    Raises:
        InvalidArgument: it has no text, or an invalid pattern.
    """
    if not (request.explanation.label.strip() or request.explanation.description.strip()):
        raise InvalidArgument("has neither a label nor a description", "given.explanation")
    return Subject(request.feature, accepted(request.explanation, "given.explanation"))


def stored(row: RowMapping) -> Subject:
    """The explanation of a row.

    Raises:
        FailedPrecondition: it has not ended well, or explains nothing (STATE_CONFLICT).
    """
    name = explanation_name(row["project"], row["id"])
    if row["state"] != explanation_pb2.RUN_STATE_SUCCEEDED:
        state = explanation_pb2.RunState.Name(row["state"]).removeprefix("RUN_STATE_")
        raise FailedPrecondition(f"{name} is {state}: only what has ended well can be scored")
    explanation = common.Explanation.FromString(row["explanation"] or b"")
    if explanation.status not in SCORABLE:
        status = common.ExplanationStatus.Name(explanation.status)
        ended = status.removeprefix("EXPLANATION_STATUS_")
        raise FailedPrecondition(f"{name} ended with {ended}: there is nothing to score")
    plan = dossier_pb2.Plan.FromString(row["plan"])
    return Subject(plan.feature, explanation, plan.index, name, plan.explainer)


async def freeze(
    planner: Planner, request: explanation_pb2.ScoreExplanationRequest, subject: Subject
) -> tuple[Frozen, dossier_pb2.Dossier]:
    """The plan, and the fragment of a dossier that fixes the explanation before any of its
    windows is read.

    Raises:
        SaexplainError: as `Planner.freeze` does.
    """
    frozen = await planner.freeze(_as_import(request, subject))
    if subject.explainer is not None:
        frozen.plan.explainer.CopyFrom(subject.explainer)
    frozen.plan.scored_explanation = subject.name
    fragment = dossier_pb2.Dossier(
        explanation=subject.explanation, explanation_digest=digest(subject.explanation)
    )
    return frozen, fragment


def _as_import(
    request: explanation_pb2.ScoreExplanationRequest, subject: Subject
) -> explanation_pb2.CreateExplanationRequest:
    made = explanation_pb2.CreateExplanationRequest(
        parent=request.parent,
        request_id=request.request_id,
        feature=subject.feature,
        explainer=agent_pb2.ExplainerOptions(
            explainer=_EXPLAINER, given_explanation=subject.explanation
        ),
        methods=request.methods,
        index=request.index or subject.index,
        seed=request.seed,
    )
    if request.HasField("budget"):
        made.budget.CopyFrom(request.budget)
    if subject.explainer is not None and subject.explainer.llm.model:
        for options in made.methods:
            if options.judge == "llm" and not options.llm.model:
                options.llm.model = subject.explainer.llm.model
    return made
