"""The interface of a scoring method.

A method plans (which texts to measure, which items to judge) and scores (from what was
measured and predicted). Both are functions of their request: whatever a plan drew, `score`
draws again from the same windows and seed, so nothing has to be remembered in between.
"""

from __future__ import annotations

from typing import Protocol

from saexplain.common.v1.pattern_pb2 import Pattern
from saexplain.common.v1.score_pb2 import MethodResult
from saexplain.common.v1.usage_pb2 import LlmUsage
from saexplain.scorer.v1.scorer_pb2 import (
    JudgeRequest,
    Method,
    PlanScoreRequest,
    PlanScoreResponse,
    Prediction,
    ScoreRequest,
    WrittenText,
)
from services.scorer.evidence import Evidence

PATTERN_JUDGE = "pattern"
"""`MethodOptions.judge` of the deterministic judge and writer."""

LLM_JUDGE = "llm"
"""`MethodOptions.judge` of the language model."""


JUDGES = (PATTERN_JUDGE, LLM_JUDGE)
"""`Method.judges` of methods that both can do."""


class Writer(Protocol):
    """Writes texts from an explanation, and from nothing else about the feature."""

    async def write(
        self, request: PlanScoreRequest, positives: int, boundaries: int
    ) -> tuple[list[WrittenText], LlmUsage]:
        """At most so many texts that should and should just not activate, with the ids
        `positive.{i}` and `boundary.{i}`. Fewer where the writer finds no more.

        Raises:
            SaexplainError: the language model gave no usable reply.
        """
        ...


class Judge(Protocol):
    """Predicts items from an explanation."""

    async def judge(self, request: JudgeRequest) -> tuple[list[Prediction], LlmUsage]:
        """One prediction per item of the request, in their order.

        Raises:
            SaexplainError: the language model cannot be asked. A reply that lacks an item
                is no error: that item is FAILED.
        """
        ...


class ScoringMethod(Protocol):
    """One way of scoring.

    Attributes:
        declaration: what `ListMethods` says of it.
        insensitive: metrics of it that do not fall when half of an explanation is missing
            or an unrelated part is added; shown with every score.
    """

    declaration: Method
    insensitive: frozenset[str]

    async def plan(self, request: PlanScoreRequest, writer: Writer) -> PlanScoreResponse:
        """The texts to measure and the items to judge.

        Raises:
            SaexplainError: from the writer.
        """
        ...

    def score(self, request: ScoreRequest) -> MethodResult:
        """The scores; every metric of the declaration, in its order. Pure.

        Raises:
            InvalidArgument: what was sent does not fit the method's own plan.
        """
        ...


def judge_name(request: ScoreRequest) -> str:
    """What `Score.judge` says: `pattern`, or the language model's name."""
    options = request.options
    return PATTERN_JUDGE if options.judge == PATTERN_JUDGE else options.llm.model


def writer_name(request: ScoreRequest) -> str:
    """What `Score.writer` says of methods whose texts are written: `pattern`, or the
    language model's name."""
    options = request.options
    if options.judge == PATTERN_JUDGE:
        return PATTERN_JUDGE
    return (options.writer if options.HasField("writer") else options.llm).model


def writer_is_explainer(request: ScoreRequest) -> bool | None:
    """Whether the texts are by the model that wrote the explanation; None where either is
    no model or not known."""
    options = request.options
    if options.judge == PATTERN_JUDGE or not options.explainer_model:
        return None
    return writer_name(request) == options.explainer_model


def other_feature_pattern(request: ScoreRequest | PlanScoreRequest) -> Pattern | None:
    """The density-matched feature's pattern, where the caller sent one."""
    has = request.HasField("other_feature_pattern")
    return request.other_feature_pattern if has else None


def evidence_of(request: ScoreRequest | PlanScoreRequest) -> Evidence:
    """The windows and facts of a request."""
    return Evidence(request.windows, request.facts)


def unscorable(request: ScoreRequest | PlanScoreRequest) -> str:
    """Why no method can score this explanation of this feature; empty where one can."""
    explanation = request.explanation
    if not (explanation.description or explanation.label or explanation.pattern.parts):
        return "there is no explanation to score"
    if not request.facts.reference_max > 0:
        return "the feature does not fire in the EXPLAIN split"
    return ""
