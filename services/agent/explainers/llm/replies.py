"""What the language model is asked to reply in the steps that explainers share. References
to windows and probes are the short names of the prompt; unknown ones are found out by the
steps."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from services.common.llm.replies import ReplyModel

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
Kind = Literal["lexical", "semantic", "structural", "positional"]


class ProposedHypothesis(ReplyModel):
    """A reading of the evidence."""

    statement: Text
    kind: Kind
    windows: list[str]
    rival: bool
    why: str


class ProposeReply(ReplyModel):
    """Reply of the step propose."""

    hypotheses: Annotated[list[ProposedHypothesis], Field(max_length=24)]
    none_because: str


class Part(ReplyModel):
    """One of the patterns of an explanation."""

    statement: Text
    hypotheses: list[str]
    windows: list[str]
    probes: list[str]


class SynthesizeReply(ReplyModel):
    """Reply of the step synthesize."""

    outcome: Literal["explained", "positional", "no_explanation"]
    label: str
    description: str
    parts: list[Part]
    why: str
