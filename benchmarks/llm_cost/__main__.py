"""Tokens of language models per feature and explainer.

    python -m benchmarks.llm_cost [--count 20] [--seed 0]

Evidence and prompts are real, from the shipped demo index; tokens are counted with the demo
model's tokenizer (49,152 tokens; providers' larger vocabularies need fewer for the same
text). Replies have the lengths that the prompts ask for. All rounds are forced. Visible
tokens: what a model thinks before it answers is not in them.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from benchmarks.lexical_sources import ELIGIBLE, FolderSource
from benchmarks.llm_cost.author import Author
from benchmarks.llm_cost.meter import Meter
from benchmarks.llm_cost.runs import Run
from saexplain.agent.v1 import agent_pb2 as pb
from saexplain.common.v1 import vocabulary_pb2
from services.activation.encoder.sources import ModelSource
from services.activation.encoder.tokenizer import TextLimits, TextTokenizer, load_tokenizer
from services.activation.index.archive import unpack
from services.activation.registry import load_registry
from services.activation.settings import ActivationSettings
from services.agent.explainers.best_of_n import BestOfNExplainer
from services.agent.explainers.one_shot import OneShotExplainer
from services.agent.explainers.paper.explainer import PaperExplainer
from services.agent.explainers.random_probe import RandomProbeExplainer
from services.agent.explainers.sage.explainer import SageExplainer
from services.orchestrator import evidence as gathering

MOST_VISIBLE_TOKENS = 30_000
EXPLAINERS: tuple[Callable[..., Any], ...] = (
    SageExplainer,
    PaperExplainer,
    OneShotExplainer,
    BestOfNExplainer,
    RandomProbeExplainer,
)
_NAMES = [make(None).name for make in EXPLAINERS]


async def measure(
    source: FolderSource, tokenizer: TextTokenizer, features: list[int], names: list[str]
) -> bool:
    """Prints a table; whether `sage` keeps to its limit on every feature, if it is in it."""
    chosen = [make for make in EXPLAINERS if make(None).name in names]
    totals: dict[str, list[Counter[str]]] = {}
    calls: dict[str, Counter[str]] = {}
    for feature in features:
        evidence = await _evidence(source, feature)
        select = await source.windows(feature, gathering.select_selections(), 0)
        for make in chosen:
            meter = Meter(partial(_length, tokenizer), Author(_corpus(evidence)))
            explainer = make(meter)
            await Run(explainer, meter, evidence, select, partial(_cut, tokenizer)).whole()
            totals.setdefault(explainer.name, []).append(meter.tokens)
            calls[explainer.name] = meter.calls
            totals.setdefault(f"{explainer.name} prompts", []).append(meter.prompt_tokens)
    for make in chosen:
        _show(make(None).name, totals, calls)
    return all(tokens.total() <= MOST_VISIBLE_TOKENS for tokens in totals.get("sage", ()))


def _show(name: str, totals: dict[str, list[Counter[str]]], calls: dict[str, Counter[str]]) -> None:
    sums = [tokens.total() for tokens in totals[name]]
    prompts = mean(tokens.total() for tokens in totals[f"{name} prompts"])
    print(
        f"{name:13s} mean {mean(sums):9,.0f}  max {max(sums):9,}  prompts {prompts:9,.0f}  "
        f"calls {calls[name].total():4d}"
    )
    for step, count in sorted(calls[name].items()):
        share = mean(tokens[step] for tokens in totals[name])
        print(f"    {step:20s} {share:9,.0f}  in {count} calls")


async def _evidence(source: FolderSource, feature: int) -> pb.Evidence:
    """As a run gathers it. The vocabulary probe stands in by the tokens that fire in the
    windows: its place in the prompt is as long whatever tokens it names."""
    facts = await source.facts(feature)
    lists = await source.windows(feature, gathering.explain_selections(), 0)
    evidence = gathering.evidence(facts, lists, [])
    strongest = gathering.strongest_peak_tokens(lists, gathering.NEIGHBOR_TOKENS)
    pieces = {
        t: bytes(b)
        for listed in lists
        for w in listed.windows
        for t, b in zip(w.tokens.token_ids, w.tokens.token_bytes, strict=True)
    }
    near = list(dict.fromkeys([*strongest, *pieces]))[:20]
    best = gathering.top_windows(lists)[0]
    for kind, prefix in (
        (vocabulary_pb2.CARRIER_KIND_SHORT, []),
        (vocabulary_pb2.CARRIER_KIND_EXEMPLAR, list(best.left_context.token_bytes)[-32:]),
    ):
        probe = evidence.vocabulary_probes.add()
        probe.carrier.kind = kind
        probe.carrier.prefix.token_bytes.extend(prefix)
        for token in near:
            probe.top_tokens.add(token_bytes=pieces[token], activation=facts.reference_max)
    return evidence


def _demo(scratch: Path) -> tuple[FolderSource, TextTokenizer]:
    """What the repository ships: the index of the registry's first SAE."""
    settings = ActivationSettings()
    registry = load_registry(settings.registry)
    entry = registry.saes[min(registry.saes)]
    if entry.index is None:
        raise SystemExit("the registry's first SAE ships no index")
    model = Path(registry.model_source(entry.model, settings.cache_dir).location)
    index = unpack(entry.index, scratch / "index").folder
    return FolderSource(index, model, None), load_tokenizer(ModelSource(str(model)))


async def _draw(source: FolderSource, count: int, seed: int) -> list[int]:
    """Eligible features in random order."""
    chosen: list[int] = []
    for feature in np.random.default_rng(seed).permutation(source.feature_count):
        if len(chosen) == count:
            break
        if (await source.facts(int(feature))).stratum == ELIGIBLE:
            chosen.append(int(feature))
    return chosen


def _corpus(evidence: pb.Evidence) -> list[str]:
    return [
        b"".join(w.tokens.token_bytes).decode("utf-8", errors="ignore")
        for listed in evidence.windows
        for w in listed.windows
    ]


def _length(tokenizer: TextTokenizer, text: str) -> int:
    return len(tokenizer.content_ids([text])[0])


def _cut(tokenizer: TextTokenizer, text: str) -> list[bytes]:
    cut = tokenizer.tokenize([text], TextLimits())[0]
    return list(cut.token_bytes[cut.prefix_count :])


def main() -> None:
    """Reads the command line; ends with 1 where `sage` is above its limit."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=20, help="eligible features")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--explainers", nargs="+", choices=_NAMES, default=_NAMES)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        source, tokenizer = _demo(Path(scratch))

        async def run() -> bool:
            features = await _draw(source, arguments.count, arguments.seed)
            return await measure(source, tokenizer, features, arguments.explainers)

        kept = asyncio.run(run())
    print(f"\nlimit of {MOST_VISIBLE_TOKENS:,} {'kept' if kept else 'NOT kept'} by sage")
    raise SystemExit(0 if kept else 1)


if __name__ == "__main__":
    main()
