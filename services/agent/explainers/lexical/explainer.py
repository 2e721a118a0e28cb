"""The steps of the lexical explainer, each a pure function of its request."""

from __future__ import annotations

from saexplain.agent.v1.agent_pb2 import (
    VERDICT_SOURCE_CODE,
    DesignProbesRequest,
    DesignProbesResponse,
    LoopPolicy,
    ProposeHypothesesRequest,
    ProposeHypothesesResponse,
    ReviseHypothesesRequest,
    ReviseHypothesesResponse,
    SynthesizeRequest,
    SynthesizeResponse,
)
from services.agent.explainers.base import StepOptions
from services.agent.explainers.citations import remove_unknown_citations
from services.agent.explainers.lexical import fit
from services.agent.explainers.lexical.cross_validation import (
    MIN_HELD_OUT_CORRELATION,
    held_out_correlation,
)
from services.agent.explainers.lexical.hypotheses import hypothesis
from services.agent.explainers.lexical.probing import design
from services.agent.explainers.lexical.revising import revise
from services.agent.explainers.lexical.synthesis import explain
from services.common.pattern.validate import MAX_PARTS


class LexicalExplainer:
    """Weighted rules of tokens under left contexts, fitted by description length, tested
    by probes. Asks no language model; equal requests give equal bytes."""

    name = "lexical"
    version = "2"
    description = (
        "Weighted rules of tokens, classes and left contexts, chosen by description length "
        "and tested by probes; no language model."
    )
    uses_llm = False
    prompt_fingerprint = ""
    available = True
    loop = LoopPolicy(
        hypothesis_count=4,
        round_count=4,
        positive_probe_count=6,
        negative_probe_count=6,
        verdict_source=VERDICT_SOURCE_CODE,
    )

    async def propose(self, request: ProposeHypothesesRequest) -> ProposeHypothesesResponse:
        """One hypothesis per part of the best rule set, strongest first."""
        evidence = request.evidence
        if not fit.fires(evidence):
            reason = "the feature does not fire in the evidence"
            return ProposeHypothesesResponse(no_hypothesis_reason=reason)
        max_parts = min(StepOptions.of(request.options).hypothesis_count, MAX_PARTS)
        occurrences = fit.lay_out(evidence)
        found = fit.search(evidence, occurrences, max_parts)
        if found is None:
            reason = "no rule describes the evidence more briefly than listing it"
            return ProposeHypothesesResponse(no_hypothesis_reason=reason)
        held_out = held_out_correlation(occurrences)
        if held_out < MIN_HELD_OUT_CORRELATION:
            reason = (
                f"rules from one half of the documents correlate with the activation in the "
                f"other at {held_out:.2f} only: what they found there is noise"
            )
            return ProposeHypothesesResponse(no_hypothesis_reason=reason)
        pairs = zip(found.pattern.parts, found.measures, strict=True)
        return ProposeHypothesesResponse(
            hypotheses=[
                hypothesis(number, part, measure, evidence, 0)
                for number, (part, measure) in enumerate(pairs, 1)
            ]
        )

    async def design(self, request: DesignProbesRequest) -> DesignProbesResponse:
        """Probes that could break the open hypotheses."""
        return design(request)

    async def revise(self, request: ReviseHypothesesRequest) -> ReviseHypothesesResponse:
        """The hypotheses after what the probes showed."""
        return revise(request)

    async def synthesize(self, request: SynthesizeRequest) -> SynthesizeResponse:
        """The explanation of what stands, refitted on the evidence."""
        explanation = explain(request.evidence, request.state)
        removed = remove_unknown_citations(explanation, request.evidence, request.state)
        return SynthesizeResponse(explanation=explanation, removed_citations=removed)
