"""What every explainer is, and the defaults that its options stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from saexplain.agent.v1.agent_pb2 import (
    DesignProbesRequest,
    DesignProbesResponse,
    ExplainerOptions,
    LoopPolicy,
    ProposeHypothesesRequest,
    ProposeHypothesesResponse,
    ReviseHypothesesRequest,
    ReviseHypothesesResponse,
    SynthesizeRequest,
    SynthesizeResponse,
)


class Explainer(Protocol):
    """A way of explaining. Stateless: all that a step needs is in its request, which
    `validate` has passed before it arrives here.

    Given equal requests (and, where a language model is asked, equal replies) a step
    gives equal responses to the byte. Nothing in a request is changed in place.
    """

    @property
    def name(self) -> str:
        """What requests call it by, such as `lexical`."""

    @property
    def version(self) -> str:
        """Raised whenever the same evidence and replies would give another result."""

    @property
    def description(self) -> str:
        """A sentence for people."""

    @property
    def uses_llm(self) -> bool:
        """Whether its steps ask a language model."""

    @property
    def prompt_fingerprint(self) -> str:
        """SHA-256 (hex) over its prompt templates; empty where it has none."""

    @property
    def available(self) -> bool:
        """False where it needs a language model and the service has none."""

    @property
    def loop(self) -> LoopPolicy:
        """How the loop around it runs. What the orchestrator knows of it beside its name."""

    async def propose(self, request: ProposeHypothesesRequest) -> ProposeHypothesesResponse:
        """Hypotheses that would explain the evidence, all OPEN with revision 1 and
        ids `h1`, `h2`, …; or none and the reason."""

    async def design(self, request: DesignProbesRequest) -> DesignProbesResponse:
        """Probes for all OPEN hypotheses, with ids `p{round}.{ordinal}` from 1 on; the
        round is `request.state.round`."""

    async def revise(self, request: ReviseHypothesesRequest) -> ReviseHypothesesResponse:
        """The whole list of hypotheses after the round, dropped ones included."""

    async def synthesize(self, request: SynthesizeRequest) -> SynthesizeResponse:
        """The explanation, with citations that all name something in the request."""


@dataclass(frozen=True)
class StepOptions:
    """`ExplainerOptions` with its zeros replaced by the documented defaults.

    Attributes:
        hypothesis_count: initial hypotheses, in [1, 12].
        positive_probe_count: probes predicted active per hypothesis and round.
        negative_probe_count: probes predicted inactive per hypothesis and round.
        seed: of every random choice.
    """

    hypothesis_count: int
    positive_probe_count: int
    negative_probe_count: int
    seed: int

    @classmethod
    def of(cls, options: ExplainerOptions) -> StepOptions:
        """Reads the numbers of a request."""
        return cls(
            hypothesis_count=options.hypothesis_count or 4,
            positive_probe_count=options.positive_probe_count or 6,
            negative_probe_count=options.negative_probe_count or 6,
            seed=options.seed,
        )
