"""Runs benchmarks, all of them by default, and keeps what each printed in `benchmarks/results/`,
with date, commit and the machine's size.

    python -m benchmarks.prove [name ...]
"""

from __future__ import annotations

import argparse
import datetime
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
BENCHMARKS = {
    "throughput": ["-m", "benchmarks.throughput", "--plots"],
    "sweep": ["-m", "benchmarks.sweep"],
    "exactness": ["-m", "benchmarks.exactness"],
    "vocabulary": ["-m", "benchmarks.vocabulary", "--coverage", "300"],
    "lexical_quality": [
        *("-m", "benchmarks.lexical_quality", "--count", "200", "--dense", "20"),
        *("--rounds", "0", "--seed", "7"),
    ],
    "planted": ["-m", "benchmarks.planted", "--rounds", "0"],
    "leakage": ["-m", "benchmarks.leakage"],
    "fuzz": ["-m", "benchmarks.fuzz"],
    "llm_cost": ["-m", "benchmarks.llm_cost"],
    "index_rebuild": ["-m", "demo.build_index", "--check"],
}


def main() -> None:
    """Runs one after the other; ends with 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", help=", ".join(BENCHMARKS))
    names = parser.parse_args().names or list(BENCHMARKS)
    unknown = sorted(set(names) - set(BENCHMARKS))
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}")
    RESULTS.mkdir(exist_ok=True)
    failed = []
    for name in names:
        print(f"== {name}", flush=True)
        run = subprocess.run(
            [sys.executable, *BENCHMARKS[name]],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        print(run.stdout, flush=True)
        (RESULTS / f"{name}.md").write_text(f"{_heading(name)}\n\n{run.stdout}")
        if run.returncode:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def _heading(name: str) -> str:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    today = datetime.datetime.now(datetime.UTC).date()
    return f"# {name}\n\n{today}, commit {commit}, {os.cpu_count()} cores, {memory:.0f} GiB"


if __name__ == "__main__":
    main()
