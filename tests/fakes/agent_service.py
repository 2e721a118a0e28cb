"""An agent that reads peak tokens: `lexical` answers with patterns and for free, all others
with words alone and at a price. `busy` finds something new in every round; `best_of_n` and
`one_shot` make no hypotheses."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from saexplain.agent.v1 import agent_pb2, agent_pb2_grpc
from saexplain.common.v1 import experiment_pb2, explanation_pb2, pattern_pb2, usage_pb2
from services.orchestrator.evidence import peak_index, top_windows
from tests.fakes import world
from tests.fakes.script import Script

OPEN = experiment_pb2.HYPOTHESIS_STATUS_OPEN
TOKENS_PER_CALL = 1_000
LOOP = agent_pb2.LoopPolicy(
    candidate_count=3,
    hypothesis_count=4,
    round_count=4,
    positive_probe_count=6,
    negative_probe_count=6,
    verdict_source=agent_pb2.VERDICT_SOURCE_CODE,
)
"""The loop that the lexical explainer and `sage` declare."""

OTHERS = {
    "busy": LOOP,
    "best_of_n": agent_pb2.LoopPolicy(candidate_count=12),
    "one_shot": agent_pb2.LoopPolicy(candidate_count=1),
}


class FakeAgent(agent_pb2_grpc.AgentServiceServicer):
    """Proposes the words at which the exemplars peak, and a rival that is wrong."""

    def __init__(self, script: Script, *, llm_available: bool = True) -> None:
        self.script = script
        self.llm_available = llm_available

    async def ListExplainers(self, request: Any, context: Any) -> agent_pb2.ListExplainersResponse:
        await self.script.enter("ListExplainers", request)
        return agent_pb2.ListExplainersResponse(
            explainers=[
                agent_pb2.Explainer(name="lexical", version="1", available=True, loop=LOOP),
                agent_pb2.Explainer(
                    name="import",
                    version="1",
                    available=True,
                    loop=agent_pb2.LoopPolicy(candidate_count=1),
                ),
                agent_pb2.Explainer(
                    name="sage",
                    version="3",
                    uses_llm=True,
                    prompt_fingerprint="9" * 64,
                    available=self.llm_available,
                    loop=LOOP,
                ),
                *(
                    agent_pb2.Explainer(
                        name=name, version="1", uses_llm=True, available=True, loop=loop
                    )
                    for name, loop in OTHERS.items()
                ),
            ]
        )

    async def ProposeHypotheses(
        self, request: Any, context: Any
    ) -> agent_pb2.ProposeHypothesesResponse:
        await self.script.enter("ProposeHypotheses", request)
        exemplars = top_windows(request.evidence.windows)
        usage = _usage(request, "propose_hypotheses")
        if not exemplars:
            return agent_pb2.ProposeHypothesesResponse(
                no_hypothesis_reason="there are no exemplars", usage=usage
            )
        told = _told(request)
        lexical = request.options.explainer == "lexical"
        busy = request.options.explainer == "busy"
        hypotheses = [
            _hypothesis("h1", told, [] if busy else [w.name for w in exemplars], lexical),
            _hypothesis("h2", ["stone"], [exemplars[0].name], lexical, rival=True),
        ]
        return agent_pb2.ProposeHypothesesResponse(
            hypotheses=hypotheses[: request.options.hypothesis_count], usage=usage
        )

    async def DesignProbes(self, request: Any, context: Any) -> agent_pb2.DesignProbesResponse:
        await self.script.enter("DesignProbes", request)
        probes = []
        number = request.state.round
        rng = random.Random(f"{request.options.seed}/{number}")
        for hypothesis in request.state.hypotheses:
            if hypothesis.status != OPEN:
                continue
            words = hypothesis.statement.split(": ")[1].split(", ")
            for positive, count in (
                (True, request.options.positive_probe_count),
                (False, request.options.negative_probe_count),
            ):
                for ordinal in range(count):
                    left, right = rng.sample(world.FILLERS, 2)
                    middle = words[ordinal % len(words)] if positive else rng.choice(world.FILLERS)
                    probes.append(
                        experiment_pb2.Probe(
                            id=f"p{number}.{len(probes)}",
                            hypothesis_id=hypothesis.id,
                            hypothesis_revision=hypothesis.revision,
                            text=f"{left} {middle} {right}",
                            role=experiment_pb2.PROBE_ROLE_POSITIVE
                            if positive
                            else experiment_pb2.PROBE_ROLE_BOUNDARY,
                            predicted_active=positive,
                            round=number,
                        )
                    )
        return agent_pb2.DesignProbesResponse(
            probes=probes,
            refused_probes=[
                agent_pb2.RefusedProbe(text="again", reason="repeats_probe", hypothesis_id="h1")
            ],
            usage=_usage(request, "design_probes"),
        )

    async def ReviseHypotheses(
        self, request: Any, context: Any
    ) -> agent_pb2.ReviseHypothesesResponse:
        await self.script.enter("ReviseHypotheses", request)
        response = agent_pb2.ReviseHypothesesResponse(
            hypotheses=request.state.hypotheses, usage=_usage(request, "revise_hypotheses")
        )
        for hypothesis in response.hypotheses:
            if hypothesis.status == experiment_pb2.HYPOTHESIS_STATUS_REFUTED:
                hypothesis.status = experiment_pb2.HYPOTHESIS_STATUS_REJECTED
                response.operations.add(
                    kind=agent_pb2.REVISION_KIND_REJECT,
                    sources=[hypothesis.id],
                    rationale="its positives stayed silent",
                )
        if request.options.explainer == "busy":
            added = _hypothesis(f"h{10 + request.state.round}", _told(request), [], False)
            response.hypotheses.append(added)
            response.operations.add(kind=agent_pb2.REVISION_KIND_ADD, targets=[added.id])
        return response

    async def Synthesize(self, request: Any, context: Any) -> agent_pb2.SynthesizeResponse:
        await self.script.enter("Synthesize", request)
        usage = _usage(request, "synthesize")
        found = request.state.hypotheses or [_hypothesis("h1", _told(request), [], False)]
        best = found[-1] if request.options.explainer == "busy" else found[0]
        explanation = explanation_pb2.Explanation(
            status=explanation_pb2.EXPLANATION_STATUS_EXPLAINED,
            label=best.statement,
            description=best.statement,
            parts=[
                explanation_pb2.ExplanationPart(
                    statement=best.statement, window_citations=best.claimed_windows[:3]
                )
            ],
        )
        if best.HasField("pattern"):
            explanation.pattern.CopyFrom(best.pattern)
        return agent_pb2.SynthesizeResponse(explanation=explanation, usage=usage)


def _told(request: Any) -> list[str]:
    """The words at which the exemplars peak, the commonest first."""
    words = Counter(
        bytes(w.tokens.token_bytes[peak_index(w)]).decode().strip()
        for w in top_windows(request.evidence.windows)
    )
    return [word for word, _ in sorted(words.items(), key=lambda i: (-i[1], i[0]))]


def _hypothesis(
    identifier: str, words: list[str], claimed: list[str], lexical: bool, *, rival: bool = False
) -> experiment_pb2.Hypothesis:
    hypothesis = experiment_pb2.Hypothesis(
        id=identifier,
        statement=f"words: {', '.join(words)}",
        kind=experiment_pb2.HYPOTHESIS_KIND_LEXICAL,
        claimed_windows=claimed,
        status=OPEN,
        revision=1,
        rival=rival,
    )
    if lexical:
        hypothesis.pattern.CopyFrom(pattern_of(words))
    return hypothesis


def pattern_of(words: list[str]) -> pattern_pb2.Pattern:
    """Fires at each of the words, with or without a leading space."""
    rules = [
        pattern_pb2.PatternRule(
            token=pattern_pb2.TokenMatcher(
                literal=word.encode(), ignore_leading_space=True, ignore_case=True
            ),
            strength=1.0,
        )
        for word in words
    ]
    return pattern_pb2.Pattern(parts=[pattern_pb2.PatternPart(label="words", rules=rules)])


def _usage(request: Any, step: str) -> usage_pb2.LlmUsage:
    if request.options.explainer == "lexical":
        return usage_pb2.LlmUsage()
    return usage_of(step, request.options.llm.model)


def usage_of(step: str, model: str) -> usage_pb2.LlmUsage:
    """What one call costs: 1,000 tokens and a cent."""
    prompt = TOKENS_PER_CALL - 100
    return usage_pb2.LlmUsage(
        prompt_token_count=prompt,
        completion_token_count=100,
        request_count=1,
        cost=0.01,
        currency_code="USD",
        calls=[
            usage_pb2.LlmCall(
                step=step,
                model=model,
                outcome=usage_pb2.LLM_CALL_OUTCOME_OK,
                prompt_token_count=prompt,
                completion_token_count=100,
            )
        ],
    )
