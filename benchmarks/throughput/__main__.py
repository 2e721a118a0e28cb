"""Measures all arms in one run, prints the table and keeps it with the plots.

    python -m benchmarks.throughput [--texts 256] [--repeats 3] [--seconds S] [--limit NAME]
                                    [--compile] [--plots]
                                    [--only served,peers,bf16,agreement]

Two threads compute; the gRPC arms' client is this process and shares the same cores. Caches are
off. Ratios are taken within a turn; the median over turns is printed, and half their range.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.throughput import limit, plots, served
from benchmarks.throughput.agreement import agreement
from benchmarks.throughput.apart import Apart
from benchmarks.throughput.material import FEATURES, Material, load_material
from benchmarks.throughput.turns import Arm, Times, take_turns
from services.activation.encoder.allocator import keep_freed_memory

RESULTS = Path(__file__).parents[1] / "results"
THREADS = 2
OURS = "ours, in process"
BF16 = "ours, in process, bf16"
SAELENS = "SAELens' way"
SERVING = "the serving peers' way"
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
    best, name = _limit(material, arguments.limit, compiled=arguments.compile)
    arms: dict[str, Arm] = {f"limit: {name}": best, OURS: _ours(material)}
    groups = arguments.only.split(",")
    with contextlib.ExitStack() as stack:
        if "served" in groups or arguments.plots:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            front = stack.enter_context(served.front(THREADS, folder / "front.log"))
            client = stack.enter_context(served.Client(front))
        if "served" in groups:
            triton = stack.enter_context(served.triton_front(THREADS, folder))
            asked = stack.enter_context(served.Client(triton))
            for one in (client, asked):
                served.check_answers(one, material)
            arms.update(served.arms(client, asked, material))
        arms[SAELENS] = stack.enter_context(Apart("saelens", arguments.texts))
        if "peers" in groups:
            arms[SERVING] = stack.enter_context(Apart("serving", arguments.texts))
        if "bf16" in groups:
            arms[BF16] = _ours(material, material.cut_model(torch.bfloat16))
        warm = [name for name in arms if "way" not in name and "gRPC" not in name]
        take_turns({name: arms[name] for name in warm}, 1)
        times = take_turns(arms, arguments.repeats, show=True, until=until)
        _print_table(times, material)
        if "agreement" in groups:
            print(f"\nbf16 beside fp32: {agreement(material, material.cut_model(torch.bfloat16))}")
        if arguments.plots:
            RESULTS.mkdir(exist_ok=True)
            _print_curves(plots.measure(material, client))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--seconds", type=float, default=math.inf, help="no turn begins that would end later"
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


def _limit(material: Material, wanted: str | None, *, compiled: bool) -> tuple[Arm, str]:
    """The fastest variant on a fifth of the texts, or the wanted one, as an arm over all texts."""
    if wanted is not None:
        return limit.variants(material, compiled=compiled)[wanted], wanted
    few = max(1, len(material.texts) // 5)
    part = replace(material, texts=material.texts[:few], rows=material.rows[:few])
    tried = limit.variants(part, compiled=compiled)
    take_turns(tried, 1)
    times = take_turns(tried, 2)
    name = times.fastest()
    print("| variant of the limit | tokens/s |\n|---|---:|")
    for variant in tried:
        print(f"| {variant} | {part.token_count / times.median(variant):,.0f} |")
    print()
    return limit.variants(material, compiled=compiled)[name], name


def _ours(material: Material, model: object = None) -> Arm:
    from services.activation.encoder.model import CutModel

    encoder = material.encoder(model if isinstance(model, CutModel) else None)
    return lambda: encoder.encode(material.sae, material.rows, FEATURES)


def _print_head(material: Material) -> None:
    print(
        f"{len(material.rows)} texts, {material.token_count} tokens, {len(FEATURES)} features, "
        f"{THREADS} threads, hook {material.sae.config.hook}, "
        f"{material.budget} tokens of a forward pass\n",
        flush=True,
    )


def _print_table(times: Times, material: Material) -> None:
    first = next(iter(times.seconds))
    print("\n| arm | tokens/s | of the limit | ± | bar | measured against the bar |")
    print("|---|---:|---:|---:|---|---:|")
    for arm in times.seconds:
        speed = material.token_count / times.median(arm)
        print(
            f"| {arm} | {speed:,.0f} | {times.ratio(arm, first):.3f} | "
            f"{times.spread(arm, first):.3f} | {_BARS.get(arm, '')} | "
            f"{_measured(times, arm, first)} |"
        )
    shares = limit.shares(material, material.token_count / times.median(first))
    print(
        f"\nThe limit does {shares['limit']:.0f} of {shares['peak']:.0f} GFLOP/s of bare float32 "
        f"products of the same shapes: {shares['share']:.2f} of the peak. bf16 products: "
        f"{limit.peak_operations(material.model, torch.bfloat16) / 1e9:.0f} GFLOP/s."
    )


def _measured(times: Times, arm: str, first: str) -> str:
    against = _AGAINST.get(arm)
    if arm not in _BARS or (against is not None and against not in times.seconds):
        return ""
    if against is None:
        return f"{times.ratio(arm, first):.3f}"
    if arm == BF16:
        return f"{times.ratio(arm, against):.2f} ×"
    return f"{times.ratio(against, arm):.2f} ×"


def _print_curves(curves: dict[str, plots.Curve]) -> None:
    for axis, curve in curves.items():
        print(f"\n{axis}: " + _joined([f"{at}: {speed:,.0f}" for at, speed in curve.items()]))
    for path in plots.draw(curves, RESULTS):
        print(f"wrote {path.relative_to(RESULTS.parents[1])}")


def _joined(parts: Sequence[str]) -> str:
    return ", ".join(parts) + " tokens/s"


if __name__ == "__main__":
    main()
