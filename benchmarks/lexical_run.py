"""One feature through the lexical explainer and the corpus score, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

from benchmarks.lexical_scoring import Values, score
from benchmarks.lexical_sources import Source
from saexplain.agent.v1 import agent_pb2
from saexplain.common.v1 import experiment_pb2, explanation_pb2, feature_pb2
from saexplain.common.v1.experiment_pb2 import HYPOTHESIS_STATUS_SUPPORTED
from saexplain.common.v1.pattern_pb2 import Pattern, PatternPart, PatternRule, TokenMatcher
from saexplain.explanation.v1 import dossier_pb2
from services.agent.explainers.lexical import LexicalExplainer
from services.agent.explainers.lexical.hypotheses import is_live
from services.agent.validate import check_step
from services.common.names import parse_feature
from services.common.outcomes import OutcomeThresholds
from services.orchestrator import evidence as gathering
from services.orchestrator import measuring
from services.orchestrator.measuring import probe_result
from services.orchestrator.verdicts import decide

THRESHOLDS = dossier_pb2.Thresholds(
    active_share=0.5,
    silent_share=0.1,
    required_rate=0.7,
    support_probability=0.9,
    refute_probability=0.1,
    ambiguity_share=1e-4,
)
_NEVER = Pattern(
    parts=[PatternPart(rules=[PatternRule(token=TokenMatcher(literal=b" never"), strength=0)])]
)
"""Predicts silence."""


@dataclass(frozen=True)
class Outcome:
    """What came out for one feature.

    Attributes:
        facts: what the index says of it.
        evidence: what the explainer saw.
        scores: by method, then as `Values`.
        supported: hypotheses that the probes supported, and how many there were.
        seconds: of explaining and measuring probes.
    """

    feature: int
    facts: feature_pb2.FeatureFacts
    evidence: agent_pb2.Evidence
    explanation: explanation_pb2.Explanation
    scores: dict[str, Values]
    supported: tuple[int, int]
    seconds: float


async def run_feature(
    source: Source, feature: int, seed: int, rounds: int, methods: Sequence[str] = ("corpus",)
) -> Outcome:
    """Explains a feature from EXPLAIN and scores it on HELDOUT."""
    facts = await source.facts(feature)
    evidence = await gather(source, feature, facts, seed)
    started = perf_counter()
    explanation, state = await explain(source, feature, evidence, seed, rounds)
    seconds = perf_counter() - started
    scores = await _scores(source, feature, facts, explanation, methods, seed)
    return Outcome(feature, facts, evidence, explanation, scores, _supported(state), seconds)


async def explain(
    source: Source, feature: int, evidence: agent_pb2.Evidence, seed: int, rounds: int
) -> tuple[explanation_pb2.Explanation, agent_pb2.RunState]:
    """The lexical explainer's answer, and the run that led to it."""
    options = agent_pb2.ExplainerOptions(explainer="lexical", seed=seed)
    state = await _explore(source, feature, evidence, options, rounds)
    request = agent_pb2.SynthesizeRequest(options=options, evidence=evidence, state=state)
    return (await LexicalExplainer().synthesize(request)).explanation, state


async def gather(
    source: Source, feature: int, facts: feature_pb2.FeatureFacts, seed: int
) -> agent_pb2.Evidence:
    """What the explainer may see, with the ceiling where a model is at hand."""
    lists = await source.windows(feature, gathering.explain_selections(), seed)
    tokens = gathering.strongest_peak_tokens(lists, gathering.NEIGHBOR_TOKENS)
    near = await source.neighbors(tokens, gathering.NEIGHBORS_PER_TOKEN)
    evidence = gathering.evidence(facts, lists, near)
    ceiling = await _ceiling(source, feature, facts, evidence)
    if ceiling is not None:
        evidence.ceiling.CopyFrom(ceiling)
    return evidence


async def _explore(
    source: Source,
    feature: int,
    evidence: agent_pb2.Evidence,
    options: agent_pb2.ExplainerOptions,
    rounds: int,
) -> agent_pb2.RunState:
    """Proposal and rounds of probes, as the workflow runs them."""
    explainer = LexicalExplainer()
    scope = agent_pb2.ProposeHypothesesRequest().scope
    check_step(options, scope, evidence, None, uses_llm=False)
    proposed = await explainer.propose(
        agent_pb2.ProposeHypothesesRequest(options=options, evidence=evidence)
    )
    state = agent_pb2.RunState(hypotheses=proposed.hypotheses)
    exemplars = [w.name for w in gathering.top_windows(evidence.windows)]
    for number in range(1, rounds + 1 if source.can_encode else 1):
        state.round = number
        designed = await explainer.design(
            agent_pb2.DesignProbesRequest(options=options, evidence=evidence, state=state)
        )
        if not designed.probes:
            break
        results = await _measure(source, feature, evidence.facts, designed.probes)
        state = decide(state, results, THRESHOLDS, exemplars, number)
        if number < rounds:
            revised = await explainer.revise(
                agent_pb2.ReviseHypothesesRequest(options=options, evidence=evidence, state=state)
            )
            del state.hypotheses[:]
            state.hypotheses.extend(revised.hypotheses)
    return state


async def _measure(
    source: Source,
    feature: int,
    facts: feature_pb2.FeatureFacts,
    probes: Sequence[experiment_pb2.Probe],
) -> list[experiment_pb2.ProbeResult]:
    encoded = await source.encode(feature, [probe.text for probe in probes])
    return [
        probe_result(p, e, facts, OutcomeThresholds(), [parse_feature(facts.feature)])
        for p, e in zip(probes, encoded, strict=True)
    ]


async def _scores(
    source: Source,
    feature: int,
    facts: feature_pb2.FeatureFacts,
    explanation: explanation_pb2.Explanation,
    methods: Sequence[str],
    seed: int,
) -> dict[str, Values]:
    """By method. A feature without an explanation predicts silence in the corpus score, so
    that giving up does not raise the mean; other methods are not asked."""
    if explanation.pattern.parts:
        return {m: await score(source, feature, facts, explanation, m, seed) for m in methods}
    silence = explanation_pb2.Explanation(label="no explanation", pattern=_NEVER)
    return {"corpus": await score(source, feature, facts, silence, "corpus", seed)}


def _supported(state: agent_pb2.RunState) -> tuple[int, int]:
    live = [h for h in state.hypotheses if is_live(h)]
    return sum(h.status == HYPOTHESIS_STATUS_SUPPORTED for h in live), len(live)


def value(outcome: Outcome, metric: str, who: str, method: str = "corpus") -> float:
    """A score with undefined read as 0: a constant prediction correlates with nothing."""
    found = outcome.scores[method][metric].get(who)
    return 0.0 if found is None else found


def values(
    outcomes: Sequence[Outcome], metric: str, who: str, method: str = "corpus"
) -> list[float]:
    """One value per feature."""
    return [value(outcome, metric, who, method) for outcome in outcomes]


async def _ceiling(
    source: Source, feature: int, facts: feature_pb2.FeatureFacts, evidence: agent_pb2.Evidence
) -> agent_pb2.Ceiling | None:
    """As the workflow measures it; None without a model."""
    if not source.can_encode:
        return None
    exemplars = gathering.top_windows(evidence.windows)
    rows = [list(i.token_ids.ids) for i in measuring.ceiling_inputs(exemplars)]
    encoded = await source.encode_ids(feature, rows)
    return measuring.ceiling(dict(enumerate(encoded)), facts.reference_max, OutcomeThresholds())
