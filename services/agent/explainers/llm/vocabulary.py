"""Tokens beside those of the windows, as lines of a prompt: the vocabulary probe where it
was made, else the neighbours of the strongest tokens by their embeddings.

Promoted output tokens are withheld: what a feature does to the output misleads about what
it responds to.
"""

from __future__ import annotations

from collections import defaultdict

from saexplain.agent.v1.agent_pb2 import Evidence
from saexplain.common.v1.vocabulary_pb2 import (
    CARRIER_KIND_EXEMPLAR,
    CARRIER_KIND_SHORT,
    CarrierProbe,
)
from services.agent.explainers.llm.render import decoded, mark, marked, visible

_TOKENS_PER_LINE = 20
_MOST_NEIGHBOR_LINES = 12
_NEIGHBORS_PER_TOKEN = 6


def vocabulary_lines(evidence: Evidence) -> list[str]:
    """The strongest tokens behind the short carriers, by their mean, and behind the
    feature's best exemplar. The bare carrier is for diagnosis only."""
    reference_max = evidence.facts.reference_max
    probes = evidence.vocabulary_probes
    short = [p for p in probes if p.carrier.kind == CARRIER_KIND_SHORT]
    lines = []
    if short:
        lines.append(f"any words: {_ranked(_means(short), reference_max)}")
    for probe in probes:
        if probe.carrier.kind == CARRIER_KIND_EXEMPLAR:
            prefix = marked(probe.carrier.prefix.token_bytes, [0] * _length(probe))
            values = {t.token_bytes: t.activation for t in probe.top_tokens}
            lines.append(f"{prefix} …: {_ranked(values, reference_max)}")
    return lines


def neighbor_lines(evidence: Evidence) -> list[str]:
    """A line per strongest token with the tokens whose embeddings are close to it; none
    where the whole vocabulary was measured."""
    if evidence.vocabulary_probes:
        return []
    lines = []
    for listed in evidence.token_neighbors[:_MOST_NEIGHBOR_LINES]:
        close = [*listed.variants, *listed.neighbors][:_NEIGHBORS_PER_TOKEN]
        if close:
            names = ", ".join(_quoted(token.token_bytes) for token in close)
            lines.append(f"{_quoted(listed.token.token_bytes)}: {names}")
    return lines


def _length(probe: CarrierProbe) -> int:
    return len(probe.carrier.prefix.token_bytes)


def _means(probes: list[CarrierProbe]) -> dict[bytes, float]:
    """Mean activation per token over the carriers; a token that is not among the
    strongest behind one of them counts 0 there."""
    sums: dict[bytes, float] = defaultdict(float)
    for probe in probes:
        for token in probe.top_tokens:
            sums[token.token_bytes] += token.activation
    return {token: total / len(probes) for token, total in sums.items()}


def _ranked(values: dict[bytes, float], reference_max: float) -> str:
    ranked = sorted(values, key=lambda token: (-values[token], token))
    shown = [(token, mark(values[token], reference_max)) for token in ranked[:_TOKENS_PER_LINE]]
    told = [f"{_quoted(token)} {value}" for token, value in shown if value]
    return ", ".join(told) or "no token fires"


def _quoted(token: bytes) -> str:
    return visible(decoded(token)).replace(" ", "␣")
