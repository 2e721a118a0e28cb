"""Measures the index sweep side by side, and the memory it takes.

    python -m benchmarks.sweep [--documents 40] [--repeats 3] [--no-memory]

Arms take turns, so that a machine whose speed drifts drifts for all of them; ratios are taken
within a turn and the median over turns is printed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.sweep.arms import arms, load_setting

_SIZES = (100_000, 1_000_000)


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--documents", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--speed", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    if arguments.speed:
        with tempfile.TemporaryDirectory() as folder:
            _speed(arguments.documents, arguments.repeats, Path(folder))
    if arguments.memory:
        _memory()


def _speed(documents: int, repeats: int, folder: Path) -> None:
    setting = load_setting(documents, folder)
    runs = arms(setting)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            if turn:  # the first turn warms up
                times[name].append(time.perf_counter() - begin)
    limit = times[next(iter(runs))]
    tokens = int(setting.plan.layout.context_length.sum())
    features = setting.loaded.sae.feature_count
    print(f"{tokens} tokens, {features} features, {torch.get_num_threads()} threads, fp32")
    print("| arm | tokens/s | of the limit |\n|---|---:|---:|")
    for name, taken in times.items():
        ratio = statistics.median(a / b for a, b in zip(limit, taken, strict=True))
        print(f"| {name} | {tokens / statistics.median(taken):,.0f} | {ratio:.2f} |")


def _memory() -> None:
    command = [sys.executable, "-m", "benchmarks.sweep.memory", "--tokens"]
    found = [
        json.loads(subprocess.run([*command, str(size)], check=True, capture_output=True).stdout)
        for size in _SIZES
    ]
    print("| " + " | ".join(found[0]) + " |\n|" + "---:|" * len(found[0]))
    for row in found:
        print("| " + " | ".join(f"{value:,}" for value in row.values()) + " |")
    print(f"peak, corpus grown tenfold: {found[1]['peak_mib'] / found[0]['peak_mib']:.3f}")


if __name__ == "__main__":
    main()
