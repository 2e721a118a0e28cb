"""``python -m benchmarks.exactness``: the full table; ends with 1 where the contract is broken.

Options: names of families to run, all of them by default.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from benchmarks.exactness.families import configurations
from benchmarks.exactness.run import FamilyRun, Result
from benchmarks.exactness.saes import KINDS

_HEADER = ("", "comparisons", "pre-activations", "activations", "active", "flips", "outside band")


def main(arguments: Sequence[str]) -> int:
    """Run the families named, print the tables."""
    warnings.filterwarnings("ignore")
    wanted = arguments or list(configurations())
    results: list[Result] = []
    for name in wanted:
        with tempfile.TemporaryDirectory() as folder:
            run = FamilyRun(name, configurations()[name], Path(folder))
            results.extend(run.check_all(KINDS))
        print(f"{name}: {len(results)} comparisons so far", file=sys.stderr)
    _print_table("family", results, lambda result: result.family)
    _print_table("place", results, lambda result: result.site.value)
    _print_table("kind of SAE", results, _kind_name)
    broken = [result for result in results if not result.difference.within]
    for result in broken:
        print(f"BROKEN {result.family} {result.site.value} {_kind_name(result)}")
    return 1 if broken else 0


def _kind_name(result: Result) -> str:
    return f"{result.kind.name}{', centred weights' if result.centred else ''}"


def _print_table(title: str, results: Iterable[Result], key: Callable[[Result], str]) -> None:
    """One row per value of ``key``: the worst error and the sums of counts."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(key(result), []).append(result)
    print(f"\n| {title} {' | '.join(_HEADER)} |")
    print(f"| --- {'| ---: ' * (len(_HEADER) - 1)}|")
    for name, group in groups.items():
        differences = [result.difference for result in group]
        cells = [
            name,
            str(len(group)),
            f"{max(d.relative_error for d in differences):.1e}",
            f"{max(d.value_error for d in differences):.1e}",
            f"{sum(d.active for d in differences):,}",
            str(sum(d.flips for d in differences)),
            str(sum(d.flips_outside for d in differences)),
        ]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
