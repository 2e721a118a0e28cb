"""How good the lexical explainer is, beside its baselines, on held-out text.

Draws eligible features by seed (and dense ones, on request), explains each from the EXPLAIN
split, scores the pattern on HELDOUT and prints the funnel, means with paired bootstrap
intervals over features, the gap closed, strata, and what the failures have in common.

    python -m benchmarks.lexical_quality
    python -m benchmarks.lexical_quality --count 200 --dense 40 --methods all --rounds 0
    python -m benchmarks.lexical_quality --index FOLDER --model FOLDER [--sae FOLDER]
    python -m benchmarks.lexical_quality --address HOST:PORT --sae-name saes/demo

Without folders or an address the shipped demo is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import pickle
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from benchmarks import lexical_report
from benchmarks.lexical_remembered import RememberingSource
from benchmarks.lexical_run import Outcome, run_feature
from benchmarks.lexical_scoring import deterministic_methods
from benchmarks.lexical_sources import FolderSource, ServiceSource, Source
from saexplain.common.v1.feature_pb2 import (
    FEATURE_STRATUM_DENSE,
    FEATURE_STRATUM_ELIGIBLE,
    FEATURE_STRATUM_VERY_DENSE,
    FeatureStratum,
)
from services.activation.index.archive import unpack
from services.activation.registry import load_registry
from services.activation.settings import ActivationSettings

REQUIRED_SHARE_OF_TABLE = 0.85
_DENSE = (FEATURE_STRATUM_DENSE, FEATURE_STRATUM_VERY_DENSE)


async def draw(
    source: Source, count: int, seed: int, dense: int = 0
) -> tuple[list[int], list[int], Counter[str]]:
    """Features in random order until `count` are eligible and `dense` are dense, and the
    strata met."""
    funnel: Counter[str] = Counter()
    eligible: list[int] = []
    others: list[int] = []
    for feature in np.random.default_rng(seed).permutation(source.feature_count):
        if len(eligible) == count and len(others) == dense:
            break
        stratum = (await source.facts(int(feature))).stratum
        funnel[FeatureStratum.Name(stratum).removeprefix("FEATURE_STRATUM_").lower()] += 1
        if stratum == FEATURE_STRATUM_ELIGIBLE and len(eligible) < count:
            eligible.append(int(feature))
        if stratum in _DENSE and len(others) < dense:
            others.append(int(feature))
    return eligible, others, funnel


def passed(row: lexical_report.Row) -> bool:
    """The bar: 0.85 of the table's Pearson, and above the top token's with an interval."""
    low, _ = row["minus_top_token_interval"]  # type: ignore[misc]
    return bool(row["share_of_table"] >= REQUIRED_SHARE_OF_TABLE and low > 0)  # type: ignore[operator]


async def open_source(arguments: argparse.Namespace) -> Source:
    """What the command line names."""
    if arguments.address:
        return await ServiceSource.connect(arguments.address, arguments.sae_name)
    return FolderSource(arguments.index, arguments.model, arguments.sae)


def explain_all(
    arguments: argparse.Namespace, methods: Sequence[str], features: Sequence[int]
) -> list[Outcome]:
    """Explains and scores features in their order, in processes of their own where several
    are asked for."""
    count = arguments.processes
    if count == 1 or len(features) < 2:
        return _explain_some(arguments, methods, features)
    shares = [features[i::count] for i in range(count)]
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(partial(_explain_some, arguments, methods), shares))
    return [found[i % count][i // count] for i in range(len(features))]


def _explain_some(
    arguments: argparse.Namespace, methods: Sequence[str], features: Sequence[int]
) -> list[Outcome]:
    async def explain() -> list[Outcome]:
        source = RememberingSource(await open_source(arguments))
        return [await _outcome(arguments, source, f, methods) for f in features]

    return asyncio.run(explain())


async def _outcome(
    arguments: argparse.Namespace, source: Source, feature: int, methods: Sequence[str]
) -> Outcome:
    """Kept from an earlier run with the same arguments, or made and kept."""
    seed, rounds = arguments.seed, arguments.rounds
    if arguments.keep is None:
        return await run_feature(source, feature, seed, rounds, methods)
    path: Path = arguments.keep / f"{feature}-{seed}-{rounds}-{'-'.join(methods)}.pickle"
    return _kept(path) or _keep(path, await run_feature(source, feature, seed, rounds, methods))


def _kept(path: Path) -> Outcome | None:
    if not path.is_file():
        return None
    outcome: Outcome = pickle.loads(path.read_bytes())
    return outcome


def _keep(path: Path, outcome: Outcome) -> Outcome:
    """Written whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_bytes(pickle.dumps(outcome))
    unfinished.rename(path)
    return outcome


def run(arguments: argparse.Namespace) -> int:
    """The benchmark; 0 where the bar is reached, 1 where not."""
    methods = arguments.methods
    if methods == ["all"]:
        methods = deterministic_methods()
    seed = arguments.seed

    async def drawn() -> tuple[list[int], list[int], Counter[str]]:
        return await draw(await open_source(arguments), arguments.count, seed, arguments.dense)

    eligible, others, funnel = asyncio.run(drawn())
    if not eligible:
        print("no eligible feature")
        return 1
    everything = explain_all(arguments, methods, [*eligible, *others])
    outcomes, dense = everything[: len(eligible)], everything[len(eligible) :]
    table = {m: lexical_report.comparison(outcomes, m, seed) for m in ("pearson", "f1")}
    lexical_report.print_features([*outcomes, *dense])
    print(f"\nfunnel of the features met: {dict(funnel)}")
    lexical_report.print_primary(outcomes, table)
    lexical_report.print_strata([*outcomes, *dense], seed)
    if len(methods) > 1:
        lexical_report.print_methods(outcomes, methods, seed)
    lexical_report.print_failures(outcomes)
    if arguments.json:
        record = {"funnel": dict(funnel), "features": eligible, "seed": seed, **table}
        arguments.json.write_text(json.dumps(record, indent=2) + "\n")
    print(f"\nbar {'reached' if passed(table['pearson']) else 'NOT reached'}")
    return 0 if passed(table["pearson"]) else 1


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--index", type=Path, help="folder of an index")
    parser.add_argument("--model", type=Path, help="folder of the converted model")
    parser.add_argument("--sae", type=Path, help="folder of the SAE; enables rounds of probes")
    parser.add_argument("--address", help="of a running activation service, instead of folders")
    parser.add_argument("--sae-name", default="saes/demo", help="with --address")
    parser.add_argument("--count", type=int, default=60, help="eligible features")
    parser.add_argument("--dense", type=int, default=0, help="dense features beside them")
    parser.add_argument(
        "--methods", nargs="+", default=["corpus"], help="scoring methods, or `all`"
    )
    parser.add_argument("--rounds", type=int, default=2, help="of probes; 0 for none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1, help="that share the features")
    parser.add_argument(
        "--keep",
        type=Path,
        help="folder that keeps outcomes, so that a run that was stopped goes on; "
        "another index or other code needs another folder",
    )
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if not arguments.address and not arguments.index and not arguments.model:
            use_demo(arguments, Path(scratch))
        if not arguments.address and not (arguments.index and arguments.model):
            parser.error("give --address, or --index and --model, or none of them")
        code = run(arguments)
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
