"""How good the lexical explainer is, beside its baselines, on held-out text.

Draws eligible features by seed, explains each from the EXPLAIN split (with rounds of
probes where a model is at hand), scores the pattern on HELDOUT and prints the funnel, mean
Pearson and F1, paired bootstrap intervals over features, and the gap closed.

    python -m benchmarks.lexical_quality
    python -m benchmarks.lexical_quality --index FOLDER --model FOLDER [--sae FOLDER]
    python -m benchmarks.lexical_quality --address HOST:PORT --sae-name saes/demo

Without folders or an address the shipped demo is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks.lexical_run import Outcome, run_feature, values
from benchmarks.lexical_sources import ELIGIBLE, FolderSource, ServiceSource, Source
from saexplain.common.v1.explanation_pb2 import ExplanationStatus
from saexplain.common.v1.feature_pb2 import FeatureStratum
from services.activation.index.archive import unpack
from services.activation.registry import load_registry
from services.activation.settings import ActivationSettings
from services.scorer.statistics.derived import gap_closed

BASELINES = ("top_token", "token_table")
REPLICATES = 10_000
REQUIRED_SHARE_OF_TABLE = 0.85


async def draw(source: Source, count: int, seed: int) -> tuple[list[int], Counter[str]]:
    """Features in random order until `count` are eligible, and the strata met."""
    funnel: Counter[str] = Counter()
    chosen: list[int] = []
    for feature in np.random.default_rng(seed).permutation(source.feature_count):
        stratum = (await source.facts(int(feature))).stratum
        funnel[FeatureStratum.Name(stratum).removeprefix("FEATURE_STRATUM_").lower()] += 1
        if stratum == ELIGIBLE:
            chosen.append(int(feature))
        if len(chosen) == count:
            break
    return chosen, funnel


def paired_interval(differences: list[float], seed: int) -> tuple[float, float]:
    """95 % bootstrap interval of the mean difference, over features."""
    array = np.asarray(differences)
    draws = np.random.default_rng(seed).integers(len(array), size=(REPLICATES, len(array)))
    low, high = np.percentile(array[draws].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def summary(outcomes: list[Outcome], seed: int) -> dict[str, dict[str, object]]:
    """Means per metric with paired intervals against each baseline."""
    table: dict[str, dict[str, object]] = {}
    for metric in ("pearson", "f1"):
        mine = values(outcomes, metric, "lexical")
        row: dict[str, object] = {"lexical": float(np.mean(mine))}
        for name in BASELINES:
            theirs = values(outcomes, metric, name)
            differences = [a - b for a, b in zip(mine, theirs, strict=True)]
            row[name] = float(np.mean(theirs))
            row[f"minus_{name}"] = float(np.mean(differences))
            row[f"minus_{name}_interval"] = paired_interval(differences, seed)
        row["share_of_table"] = row["lexical"] / row["token_table"]  # type: ignore[operator]
        row["gap_closed"] = gap_closed(*(row[n] for n in ("lexical", *BASELINES)))  # type: ignore[arg-type]
        table[metric] = row
    return table


def show(
    outcomes: list[Outcome], funnel: Counter[str], table: dict[str, dict[str, object]]
) -> None:
    """Prints everything a reader needs to judge the figures."""
    print("feature  status          pearson top    table   f1     top    table   label")
    for o in outcomes:
        numbers = [
            values([o], metric, who)[0]
            for metric in ("pearson", "f1")
            for who in ("lexical", *BASELINES)
        ]
        status = ExplanationStatus.Name(o.explanation.status).removeprefix("EXPLANATION_STATUS_")
        cells = "  ".join(f"{n:5.2f}" for n in numbers)
        print(f"{o.feature:7d}  {status.lower():14s}  {cells}   {o.explanation.label}")
    statuses = Counter(ExplanationStatus.Name(o.explanation.status) for o in outcomes)
    print(f"\nfunnel of the features met: {dict(funnel)}")
    print(f"explained: {dict(statuses)}")
    supported, live = (sum(o.supported[i] for o in outcomes) for i in (0, 1))
    print(f"hypotheses supported by probes: {supported} of {live}")
    print(f"median seconds per feature: {np.median([o.seconds for o in outcomes]):.2f}")
    for metric, row in table.items():
        print(f"\n{metric} on HELDOUT at natural prevalence, mean of {len(outcomes)} features")
        for name, number in row.items():
            text = (
                f"[{number[0]:+.3f}, {number[1]:+.3f}]"
                if isinstance(number, tuple)
                else "undefined"
                if number is None
                else f"{number:.3f}"
            )
            print(f"  {name:28s} {text}")


def passed(table: dict[str, dict[str, object]]) -> bool:
    """The bar: 0.85 of the table's Pearson, and above the top token's with an interval."""
    row = table["pearson"]
    low, _ = row["minus_top_token_interval"]  # type: ignore[misc]
    return bool(row["share_of_table"] >= REQUIRED_SHARE_OF_TABLE and low > 0)  # type: ignore[operator]


async def run(arguments: argparse.Namespace) -> int:
    """The benchmark; 0 where the bar is reached, 1 where not."""
    source: Source
    if arguments.address:
        source = await ServiceSource.connect(arguments.address, arguments.sae_name)
    else:
        source = FolderSource(arguments.index, arguments.model, arguments.sae)
    features, funnel = await draw(source, arguments.count, arguments.seed)
    outcomes = [
        await run_feature(source, feature, arguments.seed, arguments.rounds) for feature in features
    ]
    if not outcomes:
        print("no eligible feature")
        return 1
    table = summary(outcomes, arguments.seed)
    show(outcomes, funnel, table)
    if arguments.json:
        record = {"funnel": dict(funnel), "features": features, "seed": arguments.seed, **table}
        arguments.json.write_text(json.dumps(record, indent=2) + "\n")
    print(f"\nbar {'reached' if passed(table) else 'NOT reached'}")
    return 0 if passed(table) else 1


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--index", type=Path, help="folder of an index")
    parser.add_argument("--model", type=Path, help="folder of the converted model")
    parser.add_argument("--sae", type=Path, help="folder of the SAE; enables rounds of probes")
    parser.add_argument("--address", help="of a running activation service, instead of folders")
    parser.add_argument("--sae-name", default="saes/demo", help="with --address")
    parser.add_argument("--count", type=int, default=60, help="eligible features")
    parser.add_argument("--rounds", type=int, default=2, help="of probes; 0 for none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if not arguments.address and not arguments.index and not arguments.model:
            use_demo(arguments, Path(scratch))
        if not arguments.address and not (arguments.index and arguments.model):
            parser.error("give --address, or --index and --model, or none of them")
        code = asyncio.run(run(arguments))
    raise SystemExit(code)


def use_demo(arguments: argparse.Namespace, scratch: Path) -> None:
    """Measures what the repository ships."""
    settings = ActivationSettings()
    registry = load_registry(settings.registry)
    entry = registry.saes[min(registry.saes)]
    if entry.index is None:
        raise SystemExit("the registry's first SAE ships no index")
    arguments.index = unpack(entry.index, scratch / "index").folder
    arguments.model = Path(registry.model_source(entry.model, settings.cache_dir).location)
    arguments.sae = entry.folder


if __name__ == "__main__":
    main()
