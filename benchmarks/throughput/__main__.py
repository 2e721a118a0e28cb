"""Measures all arms in one run, prints the table and keeps it with the plots.

    python -m benchmarks.throughput [--texts 256] [--repeats 3] [--seconds S] [--limit NAME]
                                    [--compile] [--plots]
                                    [--only served,peers,bf16,agreement]

Two threads compute; the gRPC arms' client is this process and shares the same cores. Caches are
off. Texts are measured in groups of 64, every run of an arm between two of the limit, since
the machine's speed may double within a minute; the median ratio over groups is printed with its
standard error.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from benchmarks.throughput import limit, plots, served
from benchmarks.throughput.agreement import agreement
from benchmarks.throughput.apart import Apart
from benchmarks.throughput.material import FEATURES, Material, load_material
from benchmarks.throughput.turns import Group, Record, median_seconds, side_by_side
from services.activation.encoder.allocator import keep_freed_memory
from services.activation.encoder.encode import Encoder

RESULTS = Path(__file__).parents[1] / "results"
THREADS = 2
OURS = "ours, in process"
BF16 = "ours, in process, bf16"
SAELENS = "SAELens' way"
SERVING = "the serving peers' way"
_PART = 64
"""Texts of one group."""
Way = Callable[[int, int], object]
"""Runs the texts from one index up to another."""
_GROUPS = ("served", "peers", "bf16", "agreement")
_BARS = {
    OURS: "≥ 0.95",
    "ours, gRPC, one caller": "≥ 0.90",
    "ours, gRPC and Triton, one caller": "≥ 0.85",
    "ours, gRPC, 64 callers, one text each": "≥ 0.80",
    SAELENS: "ours in process ≥ 3 ×",
    SERVING: "ours over gRPC ≥ 3.9 ×",
    BF16: "≥ 2 × fp32",
}
_AGAINST = {
    SAELENS: OURS,
    SERVING: "ours, gRPC, one caller",
    BF16: OURS,
}
"""What a ratio beside the limit is taken against, where the bar names one."""


def main() -> None:
    """Prints what was measured."""
    arguments = _arguments()
    until = time.perf_counter() + arguments.seconds
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # so that the services end too
    keep_freed_memory()  # as our services do; the limit gains by it as well
    torch.set_num_threads(THREADS)
    material = load_material(arguments.texts)
    _print_head(material)
    name = arguments.limit or _fastest(material, compiled=arguments.compile)
    wanted = set(arguments.only.split(","))
    with contextlib.ExitStack() as stack:
        arms, client = _others(material, wanted, stack, arguments)
        groups = [_group(material, name, arms, begin) for begin in range(0, arguments.texts, _PART)]
        for group in groups[:1]:
            group.reference()
            group.arms[OURS]()
        record = side_by_side(groups, arguments.repeats, until)
        _print_table(record, material, name)
        if "agreement" in wanted:
            print(f"\nbf16 beside fp32: {agreement(material, material.cut_model(torch.bfloat16))}")
        if client is not None and arguments.plots:
            RESULTS.mkdir(exist_ok=True)
            _print_curves(plots.measure(material, client))


def _others(
    material: Material, wanted: set[str], stack: contextlib.ExitStack, arguments: argparse.Namespace
) -> tuple[dict[str, Way], served.Client | None]:
    """All arms but the limit, what they need started, and a client of the front if there is one."""
    encoder = material.encoder()
    ways: dict[str, Way] = {OURS: lambda b, e: _encode(material, encoder, b, e)}
    if "bf16" in wanted:
        other = material.encoder(material.cut_model(torch.bfloat16))
        ways[BF16] = lambda b, e: _encode(material, other, b, e)
    client = None
    if "served" in wanted or "peers" in wanted or arguments.plots:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        front = stack.enter_context(served.front(THREADS, folder / "front.log"))
        client = stack.enter_context(served.Client(front))
    if client is not None and ("served" in wanted or "peers" in wanted):
        triton = stack.enter_context(served.triton_front(THREADS, folder))
        asked = stack.enter_context(served.Client(triton))
        for one in (client, asked):
            served.check_answers(one, material)
        ways.update(served.ways(client, asked, material))
    ways[SAELENS] = stack.enter_context(Apart("saelens", arguments.texts)).run
    if "peers" in wanted:
        ways[SERVING] = stack.enter_context(Apart("serving", arguments.texts)).run
    return ways, client


def _encode(material: Material, encoder: Encoder, begin: int, end: int) -> None:
    encoder.encode(material.sae, material.rows[begin:end], FEATURES)


def _group(material: Material, name: str, ways: Mapping[str, Way], begin: int) -> Group:
    """Texts from ``begin`` on; the slowest way only for the first of them."""
    end = min(begin + _PART, len(material.rows))
    part = replace(material, texts=material.texts[begin:end], rows=material.rows[begin:end])
    arms = {
        arm: partial(way, begin, end) for arm, way in ways.items() if begin == 0 or arm != SERVING
    }
    compiled = "torch.compile" in name
    return Group(part.token_count, limit.variants(part, compiled=compiled)[name], arms)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--seconds", type=float, default=math.inf, help="no group begins that would end later"
    )
    parser.add_argument(
        "--only",
        default=",".join(_GROUPS),
        help="groups of arms besides limit, ours and SAELens' way",
    )
    parser.add_argument("--limit", help="this variant of the limit, instead of trying all of them")
    parser.add_argument("--compile", action="store_true", help="torch.compile among the variants")
    parser.add_argument("--plots", action="store_true", help="measure and draw the four plots")
    return parser.parse_args()


def _fastest(material: Material, *, compiled: bool) -> str:
    """The fastest variant of the limit on a fifth of the texts."""
    few = max(1, len(material.texts) // 5)
    part = replace(material, texts=material.texts[:few], rows=material.rows[:few])
    tried = limit.variants(part, compiled=compiled)
    median_seconds(tried, 1)
    seconds = median_seconds(tried, 3)
    print("| variant of the limit | tokens/s |\n|---|---:|")
    for variant in tried:
        print(f"| {variant} | {part.token_count / seconds[variant]:,.0f} |")
    print()
    return min(seconds, key=lambda variant: seconds[variant])


def _print_head(material: Material) -> None:
    print(
        f"{len(material.rows)} texts, {material.token_count} tokens, {len(FEATURES)} features, "
        f"{THREADS} threads, hook {material.sae.config.hook}, "
        f"{material.budget} tokens of a forward pass\n",
        flush=True,
    )


def _print_table(record: Record, material: Material, name: str) -> None:
    limit_speed = statistics.median(record.reference)
    print("\n| arm | tokens/s | of the limit | ± | runs | bar | measured against the bar |")
    print("|---|---:|---:|---:|---:|---|---:|")
    print(f"| limit: {name} | {limit_speed:,.0f} | 1 | | {len(record.reference)} | | |")
    for arm, speeds in record.speeds.items():
        print(
            f"| {arm} | {statistics.median(speeds):,.0f} | {record.ratio(arm):.3f} | "
            f"{record.error(arm):.3f} | {len(speeds)} | {_BARS.get(arm, '')} | "
            f"{_measured(record, arm)} |"
        )
    shares = limit.shares(material, limit_speed)
    print(
        f"\nThe limit does {shares['limit']:.0f} of {shares['peak']:.0f} GFLOP/s of bare float32 "
        f"products of the same shapes: {shares['share']:.2f} of the peak. bf16 products: "
        f"{limit.peak_operations(material.model, torch.bfloat16) / 1e9:.0f} GFLOP/s."
    )


def _measured(record: Record, arm: str) -> str:
    """Ratios to another arm are quotients of the two arms' ratios to the limit."""
    against = _AGAINST.get(arm)
    if arm not in _BARS or (against is not None and against not in record.ratios):
        return ""
    if against is None:
        return f"{record.ratio(arm):.3f}"
    quotient = record.ratio(arm) / record.ratio(against)
    return f"{quotient if arm == BF16 else 1 / quotient:.2f} ×"


def _print_curves(curves: dict[str, plots.Curve]) -> None:
    for axis, curve in curves.items():
        print(f"\n{axis}: " + _joined([f"{at}: {speed:,.0f}" for at, speed in curve.items()]))
    for path in plots.draw(curves, RESULTS):
        print(f"wrote {path.relative_to(RESULTS.parents[1])}")


def _joined(parts: Sequence[str]) -> str:
    return ", ".join(parts) + " tokens/s"


if __name__ == "__main__":
    main()
