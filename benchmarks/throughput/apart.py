"""A way of others in a process of its own, with the memory allocator as Python comes with it.

Our services tell the C library to keep freed memory, and so does the benchmark, for which all arms
of its process are the faster. Who uses another tool does not have that, so its way runs here.

    python -m benchmarks.throughput.apart saelens 256

then reads lines of two numbers, runs the texts from the one up to the other, and answers each with
a line.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

_ROOT = Path(__file__).parents[2]
_STOP_SECONDS = 10


class Apart:
    """One way in a process that is ready when the body begins."""

    def __init__(self, way: str, text_count: int) -> None:
        command = [sys.executable, "-m", "benchmarks.throughput.apart", way, str(text_count)]
        self._process = subprocess.Popen(
            command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._wait("ready")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.communicate(timeout=_STOP_SECONDS)

    def run(self, begin: int, end: int) -> None:
        """One run over texts ``begin`` to ``end``."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{begin} {end}\n")
        self._process.stdin.flush()
        self._wait("done")

    def _wait(self, word: str) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip() == word:
                return
        raise SystemExit("the process of another tool's way ended")


def main() -> None:
    """Run whenever a line comes in."""
    import torch

    from benchmarks.throughput import peers
    from benchmarks.throughput.__main__ import THREADS
    from benchmarks.throughput.material import load_material

    torch.set_num_threads(THREADS)
    ways = {"saelens": peers.saelens, "serving": peers.serving_peers}
    material = load_material(int(sys.argv[2]))
    way = ways[sys.argv[1]](material)
    print("ready", flush=True)
    for line in sys.stdin:
        begin, end = map(int, line.split())
        way(material.rows[begin:end])
        print("done", flush=True)


if __name__ == "__main__":
    main()
