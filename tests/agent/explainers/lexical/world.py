"""A small synthetic corpus with features of known rules, sampled as the index samples."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from saexplain.activation.v1.activation_pb2 import TokenNeighbors, WindowList
from saexplain.agent.v1 import agent_pb2 as pb
from saexplain.common.v1 import experiment_pb2, feature_pb2, text_pb2, window_pb2
from saexplain.explanation.v1.dossier_pb2 import Thresholds
from services.agent.explainers.lexical import LexicalExplainer
from services.common.outcomes import classify
from services.orchestrator.verdicts import decide, passes

LENGTH, LEFT = 24, 8
REFERENCE = 5.0
NUMBERS = [f" {n}" for n in range(20, 60)]
COMMON = "almost nearly virtually quite very the of a in was it The Almost"
WORDS = [
    *(f" {word}" for word in COMMON.split()),
    *(f" w{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(300)),
    *NUMBERS,
    ".",
    ",",
    "\n",
]
Feature = Callable[[Sequence[str], int], float]
"""Tokens and a place to the share of the reference maximum there, before noise."""

TOKENS = re.compile(r" ?\w+|[.,]|\n| +")


def corpus(seed: int = 0, windows: int = 2500) -> list[list[str]]:
    """Texts of LEFT + LENGTH tokens; commoner words first, as in Zipf's law."""
    rng = np.random.default_rng(seed)
    common = 1 / np.arange(8, 8 + len(WORDS))
    rows = rng.choice(len(WORDS), size=(windows, LEFT + LENGTH), p=common / common.sum())
    return [[WORDS[i] for i in row] for row in rows]


def span(tokens: Sequence[str]) -> text_pb2.TokenSpan:
    """Tokens as a message."""
    return text_pb2.TokenSpan(
        token_ids=[hash_of(t) for t in tokens], token_bytes=[t.encode() for t in tokens]
    )


def hash_of(token: str) -> int:
    """A stable id."""
    return WORDS.index(token) if token in WORDS else 10_000 + sum(token.encode())


def evidence(
    feature: Feature,
    *,
    seed: int = 0,
    counts: tuple[int, int, int, int] = (20, 120, 120, 40),
    neighbors: Sequence[TokenNeighbors] = (),
    context_position: int = LEFT,
) -> pb.Evidence:
    """TOP, RANDOM_ACTIVE, NON_ACTIVATING and NEAR_MISS windows with probabilities."""
    rng = np.random.default_rng(seed + 1)
    population = [
        _window(i, tokens, feature, context_position, rng) for i, tokens in enumerate(corpus(seed))
    ]
    active = [w for w in population if w.max_activation > 0]
    silent = [w for w in population if w.max_activation == 0]
    ranked = sorted(active, key=lambda w: -w.max_activation)[: counts[0]]
    peaks = {w.tokens.token_bytes[int(np.argmax(w.activations))] for w in ranked}
    similar = [w for w in silent if peaks & set(w.tokens.token_bytes)]
    lists = [
        _list(window_pb2.WINDOW_STRATEGY_TOP, ranked, 1.0),
        _sampled(window_pb2.WINDOW_STRATEGY_RANDOM_ACTIVE, active, counts[1], rng),
        _sampled(window_pb2.WINDOW_STRATEGY_NON_ACTIVATING, silent, counts[2], rng),
        _sampled(window_pb2.WINDOW_STRATEGY_NEAR_MISS, similar, counts[3], rng),
    ]
    reference = max((w.max_activation for w in ranked), default=0.0)
    facts = feature_pb2.FeatureFacts(feature="saes/demo/features/7", reference_max=reference)
    return pb.Evidence(facts=facts, windows=lists, token_neighbors=neighbors)


def activations(
    feature: Feature, tokens: Sequence[str], rng: np.random.Generator | None = None
) -> list[float]:
    """Value at every token, in the SAE's unit."""
    shares = [feature(tokens, i) for i in range(len(tokens))]
    noise = rng.uniform(0.7, 1.0, len(tokens)) if rng else np.ones(len(tokens))
    return [float(np.float32(REFERENCE * s * n)) for s, n in zip(shares, noise, strict=True)]


def _window(
    number: int, tokens: list[str], feature: Feature, position: int, rng: np.random.Generator
) -> window_pb2.Window:
    values = activations(feature, tokens, rng)[LEFT:]
    return window_pb2.Window(
        name=f"indexes/i/windows/{number:05d}",
        document=f"d{number // 4}",
        split=window_pb2.SPLIT_EXPLAIN,
        left_context=span(tokens[:LEFT]),
        tokens=span(tokens[LEFT:]),
        activations=values,
        max_activation=max(values),
        context_position=position,
    )


def _sampled(
    strategy: int, windows: list[window_pb2.Window], count: int, rng: np.random.Generator
) -> WindowList:
    count = min(count, len(windows))
    chosen = sorted(rng.choice(len(windows), size=count, replace=False)) if count else []
    return _list(strategy, [windows[i] for i in chosen], count / max(len(windows), 1))


def _list(strategy: int, windows: list[window_pb2.Window], probability: float) -> WindowList:
    listed = WindowList(
        selection=window_pb2.WindowSelection(strategy=strategy, split=window_pb2.SPLIT_EXPLAIN)
    )
    for window in windows:
        copy = listed.windows.add()
        copy.CopyFrom(window)
        copy.strategy = strategy
        copy.inclusion_probability = probability
    return listed


def measure(
    feature: Feature, probes: Sequence[experiment_pb2.Probe], reference: float
) -> list[experiment_pb2.ProbeResult]:
    """What the feature does on probes, cut into tokens from their text alone."""
    results = []
    for probe in probes:
        tokens = TOKENS.findall(probe.text)
        assert "".join(tokens) == probe.text
        values = activations(feature, tokens)
        outcome = classify(max(values), reference)
        results.append(
            experiment_pb2.ProbeResult(
                probe=probe,
                outcome=outcome,
                tokens=span(tokens),
                activations=values,
                max_activation=max(values),
                peak_index=int(np.argmax(values)),
                passed=passes(probe.predicted_active, outcome),
            )
        )
    return results


THRESHOLDS = Thresholds(
    active_share=0.5,
    silent_share=0.1,
    required_rate=0.7,
    support_probability=0.9,
    refute_probability=0.1,
    ambiguity_share=1e-4,
)
OPTIONS = pb.ExplainerOptions(explainer="lexical", seed=3)


async def propose(given: pb.Evidence, options: pb.ExplainerOptions = OPTIONS) -> pb.RunState:
    """The state after the proposal."""
    request = pb.ProposeHypothesesRequest(options=options, evidence=given)
    response = await LexicalExplainer().propose(request)
    return pb.RunState(hypotheses=response.hypotheses)


async def design(given: pb.Evidence, state: pb.RunState) -> pb.DesignProbesResponse:
    """The probes of the state's round."""
    request = pb.DesignProbesRequest(options=OPTIONS, evidence=given, state=state)
    return await LexicalExplainer().design(request)


async def step(given: pb.Evidence, state: pb.RunState, feature: Feature) -> pb.RunState:
    """One round: design, measure, decide, revise."""
    state.round += 1
    probes = (await design(given, state)).probes
    results = measure(feature, probes, given.facts.reference_max)
    decided = decide(state, results, THRESHOLDS, [], state.round)
    request = pb.ReviseHypothesesRequest(options=OPTIONS, evidence=given, state=decided)
    revised = await LexicalExplainer().revise(request)
    del decided.hypotheses[:]
    decided.hypotheses.extend(revised.hypotheses)
    return decided


async def synthesize(given: pb.Evidence, state: pb.RunState) -> pb.SynthesizeResponse:
    """The explanation."""
    request = pb.SynthesizeRequest(options=OPTIONS, evidence=given, state=state)
    return await LexicalExplainer().synthesize(request)
