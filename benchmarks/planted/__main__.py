"""Planted features and nulls through the lexical explainer.

    python -m benchmarks.planted [--rounds 2] [--json FILE]

Builds what it needs once (about eight minutes of two cores; kept in the cache), explains
each feature from EXPLAIN, scores on HELDOUT and prints two tables: planted features, with
the explainer's F1 against firing as a share of the oracle rule's and its F1 against the
concept beside it; and nulls, of which at least 80 % must end NO_EXPLANATION.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.lexical_sources import ELIGIBLE, FolderSource
from benchmarks.planted.build import SEED, Built, World, build
from benchmarks.planted.concepts import CONCEPTS, Concept
from benchmarks.planted.evaluate import Found, evaluate
from benchmarks.planted.material import load_material
from saexplain.common.v1.explanation_pb2 import (
    EXPLANATION_STATUS_NO_EVIDENCE,
    EXPLANATION_STATUS_NO_EXPLANATION,
    ExplanationStatus,
)
from saexplain.common.v1.feature_pb2 import FeatureStratum

REQUIRED_SHARE, REQUIRED_NULLS = 0.9, 0.8
RANDOM_MODEL_COUNT = 4
FAMILIES = {"language": True, "union": True, "context": False, "outside": False}
"""Whether the rule language can say the concepts of a family."""


@dataclass(frozen=True)
class Case:
    """A feature to explain: a concept's, or a null of some kind."""

    kind: str
    feature: int
    found: Found
    concept: Concept | None = None
    agreement: float = float("nan")


async def planted(built: Built, rounds: int) -> list[Case]:
    """All concepts, in their order."""
    source = _source(built.planted)
    return [
        Case(
            concept.family,
            feature,
            await evaluate(source, feature, concept, SEED, rounds),
            concept,
            built.agreement[feature],
        )
        for feature, concept in enumerate(CONCEPTS)
    ]


async def null_cases(built: Built, rounds: int) -> list[Case]:
    """Random directions, shuffled features, and eligible latents on random weights."""
    source, other = _source(built.planted), _source(built.random_model)
    cases = [
        Case("random direction", f, await evaluate(source, f, None, SEED, rounds))
        for f in built.random_directions
    ]
    # Shuffled values belong to no function of text: there is nothing to encode a probe with.
    cases += [Case("shuffled", f, await evaluate(source, f, None, SEED, 0)) for f in built.shuffled]
    for feature in await _eligible(other, RANDOM_MODEL_COUNT):
        found = await evaluate(other, feature, None, SEED, rounds)
        cases.append(Case("random model", feature, found))
    return cases


def show(cases: Sequence[Case], nulls: Sequence[Case]) -> bool:
    """Prints both tables; whether both bars are reached."""
    print("Planted features: F1 (Pearson) on HELDOUT at natural prevalence\n")
    print(
        "| concept | family | stratum | probe | against firing: ours | oracle | share |"
        " against concept: ours | oracle | ends | says |"
    )
    print("| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- |")
    for case in cases:
        print(_row(case))
    print()
    for family in FAMILIES:
        mine = [c for c in cases if c.kind == family]
        print(
            f"{family}: share of the oracle's F1 against firing {_mean(map(share, mine)):.3f}, "
            f"F1 against firing {_mean(_f1(c, 'lexical', 'firing') for c in mine):.3f}, "
            f"against the concept {_mean(_f1(c, 'lexical', 'concept') for c in mine):.3f}"
        )
    expressible = [share(c) for c in cases if FAMILIES[c.kind]]
    reached = _mean(expressible) >= REQUIRED_SHARE
    print(
        f"\nWhere the language can express the concept: {_mean(expressible):.3f} of the oracle's "
        f"F1 on average over {len(expressible)}, bar {REQUIRED_SHARE}: {_verdict(reached)}"
    )
    short = [c.concept.name for c in cases if c.concept and share(c) < REQUIRED_SHARE]
    print(f"Below {REQUIRED_SHARE} of the oracle: {', '.join(short) or 'none'}\n")
    return _show_nulls(nulls) and reached


def share(case: Case) -> float:
    """F1 against firing over the oracle's; NaN where the oracle finds nothing."""
    oracle = _f1(case, "oracle", "firing")
    return _f1(case, "lexical", "firing") / oracle if oracle > 0 else float("nan")


def _show_nulls(nulls: Sequence[Case]) -> bool:
    print("| null | feature | density | ends | F1 | Pearson | says |")
    print("| --- | ---: | ---: | --- | ---: | ---: | --- |")
    for case in nulls:
        scores = case.found.scores
        values = (scores["lexical", "firing", m] for m in ("f1", "pearson"))
        numbers = " | ".join("–" if v is None else f"{v:.2f}" for v in values)
        print(
            f"| {case.kind} | {case.feature} | {case.found.facts.density:.1e} | "
            f"{_status(case)} | {numbers} | {case.found.explanation.label} |"
        )
    silent = (EXPLANATION_STATUS_NO_EXPLANATION, EXPLANATION_STATUS_NO_EVIDENCE)
    ended = sum(c.found.explanation.status in silent for c in nulls)
    reached = ended >= REQUIRED_NULLS * len(nulls)
    print(
        f"\n{ended} of {len(nulls)} nulls end without an explanation, bar {REQUIRED_NULLS:.0%}: "
        f"{_verdict(reached)}"
    )
    return reached


def _row(case: Case) -> str:
    assert case.concept is not None
    pairs = [
        [_cell(case, who, against) for who in ("lexical", "oracle")]
        for against in ("firing", "concept")
    ]
    stratum = FeatureStratum.Name(case.found.facts.stratum).removeprefix("FEATURE_STRATUM_")
    return (
        f"| {case.concept.name} | {case.kind} | {stratum.lower()} | {case.agreement:.2f} | "
        f"{pairs[0][0]} | {pairs[0][1]} | {share(case):.2f} | {pairs[1][0]} | {pairs[1][1]} | "
        f"{_status(case)} | {case.found.explanation.label} |"
    )


def _cell(case: Case, who: str, against: str) -> str:
    pearson = case.found.scores[who, against, "pearson"]
    shown = "–" if pearson is None else f"{pearson:.2f}"
    return f"{_f1(case, who, against):.2f} ({shown})"


def _f1(case: Case, who: str, against: str) -> float:
    """Undefined reads as 0: who predicts nothing finds nothing."""
    return case.found.scores[who, against, "f1"] or 0.0


def _mean(values: Iterator[float] | Sequence[float]) -> float:
    """Of those that are defined."""
    known = [value for value in values if not np.isnan(value)]
    return sum(known) / len(known) if known else float("nan")


def _status(case: Case) -> str:
    name = ExplanationStatus.Name(case.found.explanation.status)
    return name.removeprefix("EXPLANATION_STATUS_").lower()


def _verdict(reached: bool) -> str:
    return "reached" if reached else "NOT reached"


def _source(world: World) -> FolderSource:
    return FolderSource(world.index, world.model, world.sae)


async def _eligible(source: FolderSource, count: int) -> list[int]:
    """Eligible features in random order."""
    chosen: list[int] = []
    for feature in np.random.default_rng(SEED).permutation(source.feature_count):
        if len(chosen) < count and (await source.facts(int(feature))).stratum == ELIGIBLE:
            chosen.append(int(feature))
    return chosen


def _record(cases: Sequence[Case]) -> list[dict[str, object]]:
    return [
        {
            "kind": c.kind,
            "feature": c.feature,
            "concept": c.concept.name if c.concept else None,
            "status": _status(c),
            "label": c.found.explanation.label,
            "scores": {" ".join(key): value for key, value in c.found.scores.items()},
        }
        for c in cases
    ]


async def run(arguments: argparse.Namespace) -> int:
    """0 where both bars are reached, 1 where not."""
    built = build(load_material(), lambda line: print(f"({line})", flush=True))
    cases = await planted(built, arguments.rounds)
    nulls = await null_cases(built, arguments.rounds)
    reached = show(cases, nulls)
    if arguments.json:
        arguments.json.write_text(json.dumps(_record([*cases, *nulls]), indent=2) + "\n")
    return 0 if reached else 1


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=2, help="of probes; 0 for none")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    raise SystemExit(asyncio.run(run(parser.parse_args())))


if __name__ == "__main__":
    main()
