"""One feature through the lexical explainer and the corpus score, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

from benchmarks.lexical_sources import Source
from saexplain.agent.v1 import agent_pb2
from saexplain.common.v1 import experiment_pb2, explanation_pb2, feature_pb2, score_pb2
from saexplain.common.v1.experiment_pb2 import HYPOTHESIS_STATUS_SUPPORTED
from saexplain.explanation.v1 import dossier_pb2
from saexplain.scorer.v1 import scorer_pb2
from services.agent.explainers.lexical import LexicalExplainer
from services.agent.explainers.lexical.hypotheses import is_live
from services.agent.validate import check_step
from services.common.names import parse_feature
from services.common.outcomes import OutcomeThresholds
from services.common.pattern import predict_window
from services.orchestrator import evidence as gathering
from services.orchestrator.measuring import probe_result
from services.orchestrator.verdicts import decide
from services.scorer.methods.corpus import Corpus

THRESHOLDS = dossier_pb2.Thresholds(
    active_share=0.5,
    silent_share=0.1,
    required_rate=0.7,
    support_probability=0.9,
    refute_probability=0.1,
    ambiguity_share=1e-4,
)


@dataclass(frozen=True)
class Outcome:
    """What came out for one feature.

    Attributes:
        scores: by metric: the lexical explainer's value and the baselines'; None where
            undefined. A feature without an explanation predicts silence.
        supported: hypotheses that the probes supported, and how many there were.
        seconds: of reading the index, explaining and measuring probes.
    """

    feature: int
    explanation: explanation_pb2.Explanation
    scores: dict[str, dict[str, float | None]]
    supported: tuple[int, int]
    seconds: float


async def run_feature(source: Source, feature: int, seed: int, rounds: int) -> Outcome:
    """Explains a feature from EXPLAIN and scores it on HELDOUT."""
    facts = await source.facts(feature)
    started = perf_counter()
    explanation, state = await explain(source, feature, seed, rounds)
    seconds = perf_counter() - started
    scores = await _scores(source, feature, facts, explanation, seed)
    return Outcome(feature, explanation, scores, _supported(state), seconds)


async def explain(
    source: Source, feature: int, seed: int, rounds: int
) -> tuple[explanation_pb2.Explanation, agent_pb2.RunState]:
    """The lexical explainer's answer from EXPLAIN, and the run that led to it."""
    facts = await source.facts(feature)
    evidence = await _evidence(source, feature, facts, seed)
    options = agent_pb2.ExplainerOptions(explainer="lexical", seed=seed)
    state = await _explore(source, feature, evidence, options, rounds)
    request = agent_pb2.SynthesizeRequest(options=options, evidence=evidence, state=state)
    return (await LexicalExplainer().synthesize(request)).explanation, state


async def _evidence(
    source: Source, feature: int, facts: feature_pb2.FeatureFacts, seed: int
) -> agent_pb2.Evidence:
    lists = await source.windows(feature, gathering.explain_selections(), seed)
    tokens = gathering.strongest_peak_tokens(lists, gathering.NEIGHBOR_TOKENS)
    near = await source.neighbors(tokens, gathering.NEIGHBORS_PER_TOKEN)
    return gathering.evidence(facts, lists, near)


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
    seed: int,
) -> dict[str, dict[str, float | None]]:
    method = Corpus()
    windows = await source.windows(feature, method.declaration.selections, seed)
    explained = bool(explanation.pattern.parts)
    predictions = {
        window.name: predict_window(explanation.pattern, window).tolist()
        if explained
        else [0.0] * len(window.tokens.token_ids)
        for listed in windows
        for window in listed.windows
    }
    scored = explanation_pb2.Explanation()
    scored.CopyFrom(explanation)
    # A feature without an explanation is scored as one that predicts silence, so that
    # giving up does not raise the mean.
    scored.label = scored.label or "no explanation"
    result = method.score(
        scorer_pb2.ScoreRequest(
            options=scorer_pb2.MethodOptions(method="corpus", judge="pattern", seed=seed),
            explanation=scored,
            facts=facts,
            windows=windows,
            predictions=[
                scorer_pb2.Prediction(
                    item_id=name, status=scorer_pb2.PREDICTION_STATUS_OK, shares=shares
                )
                for name, shares in sorted(predictions.items())
            ],
        )
    )
    return {score.metric: _values(score) for score in result.scores}


def _values(score: score_pb2.Score) -> dict[str, float | None]:
    values = {b.name: b.value if b.HasField("value") else None for b in score.baselines}
    values["lexical"] = score.value if score.HasField("value") else None
    return values


def _supported(state: agent_pb2.RunState) -> tuple[int, int]:
    live = [h for h in state.hypotheses if is_live(h)]
    return sum(h.status == HYPOTHESIS_STATUS_SUPPORTED for h in live), len(live)


def value(outcome: Outcome, metric: str, who: str) -> float:
    """A score with undefined read as 0: a constant prediction correlates with nothing."""
    found = outcome.scores[metric].get(who)
    return 0.0 if found is None else found


def values(outcomes: Sequence[Outcome], metric: str, who: str) -> list[float]:
    """One value per feature."""
    return [value(outcome, metric, who) for outcome in outcomes]
