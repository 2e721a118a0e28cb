"""What the language model is asked to reply in the steps of the loop. Probes are grouped by
hypothesis and hold nothing but their text: replies are what a run pays most for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from services.agent.explainers.llm.replies import Kind, Text
from services.common.llm.replies import ReplyModel


class Twin(ReplyModel):
    """A positive changed so that the claim no longer holds; `of` is its number from 1."""

    of: int
    text: str


class DesignedTest(ReplyModel):
    """The probes of one hypothesis."""

    hypothesis: str
    positives: list[str]
    boundaries: list[str]
    twins: list[Twin]


class DesignReply(ReplyModel):
    """Reply of the step design."""

    tests: Annotated[list[DesignedTest], Field(max_length=24)]


class RevisedHypothesis(ReplyModel):
    """A wording."""

    statement: Text
    kind: Kind
    windows: list[str]


class Operation(ReplyModel):
    """One change of the list of hypotheses."""

    kind: Literal["refine", "split", "merge", "reject", "add"]
    sources: list[str]
    targets: list[RevisedHypothesis]
    why: str


class Claim(ReplyModel):
    """Windows that a hypothesis explains as it stands."""

    hypothesis: str
    windows: list[str]


class ReviseReply(ReplyModel):
    """Reply of the step revise."""

    operations: Annotated[list[Operation], Field(max_length=48)]
    claims: Annotated[list[Claim], Field(max_length=48)]
