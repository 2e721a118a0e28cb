"""Thousands of generated calls, valid and broken, against the activation service as processes.

    python -m benchmarks.fuzz [--calls 5000] [--backend in_process|triton|both]

Prints what was answered, how many answers were INTERNAL or UNKNOWN, and the memory of all
processes after a warm-up and after each fifth of the calls. Ends with 1 where a process died, a
defect was seen, or a good request between the others got other values than at first.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from services.activation.settings import ActivationSettings
from services.common.grpc_client import open_channel
from tests.activation import tiny
from tests.activation.fuzz import Shot, Tally, canary, fire, shots
from tests.activation.fuzzed import build_index
from tests.activation.triton.conftest import running_triton, write_registry

_WARM_UP = 1_000
_VOLLEY = 25
_PARTS = 5


def main() -> None:
    """One table per backend."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--calls", type=int, default=5_000)
    parser.add_argument("--backend", choices=("in_process", "triton", "both"), default="both")
    arguments = parser.parse_args()
    backends = ("in_process", "triton")
    if arguments.backend != "both":
        backends = (arguments.backend,)
    volleys = _drawn(arguments.calls + _WARM_UP)
    whole = [_report(backend, volleys) for backend in backends]
    sys.exit(0 if all(whole) else 1)


def _drawn(count: int) -> list[list[Shot]]:
    """Volleys of calls, by seed."""
    drawn: list[list[Shot]] = []

    @settings(
        max_examples=count // _VOLLEY,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(shots(), min_size=_VOLLEY, max_size=_VOLLEY))
    def draw(volley: list[Shot]) -> None:
        drawn.append(volley)

    draw()
    # Hypothesis begins with simple ones; mixed, every part of the run is alike.
    mixed = [shot for volley in drawn for shot in volley]
    random.Random(0).shuffle(mixed)
    return [mixed[begin : begin + _VOLLEY] for begin in range(0, len(mixed), _VOLLEY)]


def _report(backend: str, volleys: list[list[Shot]]) -> bool:
    with tempfile.TemporaryDirectory(prefix="saexplain-fuzz-") as folder, ExitStack() as stack:
        return _measured(backend, volleys, Path(folder), stack)


def _measured(backend: str, volleys: list[list[Shot]], folder: Path, stack: ExitStack) -> bool:
    model = tiny.write_model(folder / "model")
    registry = write_registry(folder, model)
    corpus = tiny.write_corpus(folder / "corpus.jsonl.zst")
    chosen = ActivationSettings(
        registry=registry, cache_dir=folder / "cache", index_dir=folder / "indexes"
    )
    asyncio.run(build_index(chosen, corpus))
    processes, environment = [], _environment(chosen, backend)
    if backend == "triton":
        running = stack.enter_context(running_triton(registry, folder))
        environment["SAEXPLAIN_TRITON_ADDRESS"] = running.address
        processes.append(running.supervisor)
    front = stack.enter_context(_front(environment, folder / "front.log"))
    processes.append(front)
    tally, sizes, same = asyncio.run(_run(volleys, _address(folder / "front.log"), processes))
    alive = all(process.is_running() for process in processes)
    _print(backend, tally, sizes, same and alive)
    return same and alive and not tally.defects and not tally.untyped


def _environment(chosen: ActivationSettings, backend: str) -> dict[str, str]:
    return os.environ | {
        "SAEXPLAIN_REGISTRY": str(chosen.registry),
        "SAEXPLAIN_CACHE_DIR": str(chosen.cache_dir),
        "SAEXPLAIN_INDEX_DIR": str(chosen.index_dir),
        "SAEXPLAIN_ACTIVATION_LISTEN": "127.0.0.1:0",
        "SAEXPLAIN_ACTIVATION_BACKEND": backend,
        "SAEXPLAIN_ACTIVATION_MAX_TEXT_TOKENS": "200",
        "SAEXPLAIN_ACTIVATION_PRELOAD": "*",
        "OMP_NUM_THREADS": "1",
    }


@contextmanager
def _front(environment: dict[str, str], log: Path) -> Iterator[psutil.Process]:
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.activation"],
            env=environment,
            stdout=output,
            stderr=output,
        )
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(timeout=60)


def _address(log: Path) -> str:
    """Where the front listens, by its log, once it does."""
    with log.open() as lines:
        while True:
            line = lines.readline()
            if '"listening"' in line:
                return line.split('"address": "')[1].split('"')[0]


async def _run(
    volleys: list[list[Shot]], address: str, processes: list[psutil.Process]
) -> tuple[Tally, list[int], bool]:
    sizes, tally, same = [], Tally(), True
    async with open_channel(address) as channel:
        await channel.channel_ready()
        expected = await canary(channel)
        warm = _WARM_UP // _VOLLEY
        for volley in volleys[:warm]:
            await fire(channel, volley, Tally())
        sizes.append(_memory(processes))
        rest = volleys[warm:]
        for number, volley in enumerate(rest, start=1):
            await fire(channel, volley, tally)
            if number % 10 == 0:
                same = same and await canary(channel) == expected
            if number % (len(rest) // _PARTS) == 0:
                sizes.append(_memory(processes))
    return tally, sizes, same


def _memory(processes: list[psutil.Process]) -> int:
    """Resident bytes of the processes and all their children."""
    everyone = [one for root in processes for one in (root, *root.children(recursive=True))]
    return sum(one.memory_info().rss for one in everyone)


def _print(backend: str, tally: Tally, sizes: list[int], whole: bool) -> None:
    total = sum(tally.codes.values())
    print(f"\n{backend}: {total} calls after {_WARM_UP} to warm up")
    print("| status | calls |\n|---|---:|")
    for code, count in tally.codes.most_common():
        print(f"| {code} | {count} |")
    print(f"\nreasons: {', '.join(f'{r} {n}' for r, n in tally.reasons.most_common())}")
    print(f"INTERNAL, UNKNOWN or never answered: {len(tally.defects)}")
    print(f"refusals of ours without a reason: {len(tally.untyped)}")
    print(f"processes and the good request between them: {'as at first' if whole else 'BROKEN'}")
    mib = [size / 2**20 for size in sizes]
    print(f"resident MiB, after warm-up and each fifth: {', '.join(f'{m:.1f}' for m in mib)}")
    print(f"growth: {mib[-1] - mib[0]:+.1f} MiB ({(mib[-1] / mib[0] - 1):+.1%})")
    for shot, what in [*tally.defects, *tally.untyped][:10]:
        print(f"  {shot.method} {shot.manner.name} {what[:200]} {shot.data[:100]!r}")


if __name__ == "__main__":
    main()
