"""Explanations that only remember: do they score, and can one see what they are?

Two explainers that learn nothing beyond the evidence: `memoriser` writes a rule for each of
the strongest EXPLAIN tokens, with the token before it; `paster` gives the exemplars
themselves, peak token behind the four tokens to its left. On HELDOUT neither may beat
`token_table` by corpus F1; that they score far better on the EXPLAIN windows they were made
of than on HELDOUT is how they show. The lexical explainer stands beside them.

    python -m benchmarks.leakage [--count 40] [--seed 7]
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.lexical_quality import draw, use_demo
from benchmarks.lexical_report import paired_interval
from benchmarks.lexical_run import explain, gather
from benchmarks.lexical_scoring import score
from benchmarks.lexical_sources import FolderSource
from saexplain.activation.v1.activation_pb2 import WindowList
from saexplain.agent.v1.agent_pb2 import Evidence
from saexplain.common.v1.explanation_pb2 import Explanation
from saexplain.common.v1.pattern_pb2 import (
    LeftCondition,
    Pattern,
    PatternPart,
    PatternRule,
    TokenMatcher,
)
from saexplain.common.v1.window_pb2 import (
    SPLIT_EXPLAIN,
    Window,
    WindowSelection,
)
from services.common.pattern.validate import MAX_PARTS, MAX_RULES_PER_PART
from services.orchestrator import evidence as gathering

ACTIVE_SHARE = 0.5
EXPLAINERS = ("memoriser", "paster", "lexical")


@dataclass(frozen=True)
class Scores:
    """Corpus F1 of one feature by explainer, on the evidence's split and on HELDOUT, and the
    token table's on HELDOUT."""

    explain: dict[str, float]
    heldout: dict[str, float]
    token_table: float


def memoriser(evidence: Evidence) -> Explanation:
    """A rule per strong EXPLAIN token with the token before it, the strongest first."""
    places = [
        (window, place)
        for window in _windows(evidence)
        for place, value in enumerate(window.activations)
        if value >= ACTIVE_SHARE * evidence.facts.reference_max
    ]
    return _remembered(places, evidence, left=1)


def paster(evidence: Evidence) -> Explanation:
    """The exemplars, each as its peak token behind the four before it."""
    tops = gathering.top_windows(evidence.windows)
    return _remembered([(w, gathering.peak_index(w)) for w in tops], evidence, left=4)


def _windows(evidence: Evidence) -> Iterator[Window]:
    unique = {w.name: w for listed in evidence.windows for w in listed.windows if w.activations}
    yield from (unique[name] for name in sorted(unique))


def _remembered(places: Sequence[tuple[Window, int]], evidence: Evidence, left: int) -> Explanation:
    strongest = sorted(places, key=lambda p: -p[0].activations[p[1]])
    rules: dict[bytes, PatternRule] = {}
    for window, place in strongest:
        rule = _rule(window, place, left, evidence.facts.reference_max)
        key = PatternRule(token=rule.token, left=rule.left).SerializeToString(deterministic=True)
        rules.setdefault(key, rule)
    kept = list(rules.values())[: MAX_PARTS * MAX_RULES_PER_PART]
    parts = [
        PatternPart(label="what was seen", rules=kept[begin : begin + MAX_RULES_PER_PART])
        for begin in range(0, len(kept), MAX_RULES_PER_PART)
    ]
    return Explanation(label="what was seen", pattern=Pattern(parts=parts))


def _rule(window: Window, place: int, left: int, reference_max: float) -> PatternRule:
    tokens = [*window.left_context.token_bytes, *window.tokens.token_bytes]
    here = len(window.left_context.token_bytes) + place
    conditions = [
        LeftCondition(max_distance=d, any_of=[TokenMatcher(literal=tokens[here - d])])
        for d in range(1, min(left, here) + 1)
    ]
    strength = min(window.activations[place] / reference_max, 1.0)
    return PatternRule(token=TokenMatcher(literal=tokens[here]), left=conditions, strength=strength)


class _Seen:
    """A source that answers for HELDOUT with EXPLAIN, to score what was seen."""

    def __init__(self, source: FolderSource) -> None:
        self._source = source

    async def windows(
        self, feature: int, selections: Sequence[WindowSelection], seed: int
    ) -> list[WindowList]:
        """As asked for, but all from EXPLAIN."""
        seen = [
            WindowSelection(strategy=s.strategy, split=SPLIT_EXPLAIN, count=s.count)
            for s in selections
        ]
        lists = await self._source.windows(feature, seen, seed)
        for wanted, listed in zip(selections, lists, strict=True):
            listed.selection.split = wanted.split
            for window in listed.windows:
                window.split = wanted.split
        return lists


async def measure(source: FolderSource, feature: int, seed: int) -> Scores:
    """All explainers on one feature."""
    facts = await source.facts(feature)
    evidence = await gather(source, feature, facts, seed)
    lexical, _ = await explain(source, feature, evidence, seed, rounds=0)
    made = dict(zip(EXPLAINERS, (memoriser(evidence), paster(evidence), lexical), strict=True))
    seen, heldout, table = {}, {}, 0.0
    for name, explanation in made.items():
        if not explanation.pattern.parts:
            seen[name] = heldout[name] = 0.0
            continue
        again = await score(_Seen(source), feature, facts, explanation, "corpus", seed)  # type: ignore[arg-type]
        fresh = await score(source, feature, facts, explanation, "corpus", seed)
        seen[name] = again["f1"]["lexical"] or 0.0
        heldout[name] = fresh["f1"]["lexical"] or 0.0
        table = fresh["f1"]["token_table"] or 0.0
    return Scores(seen, heldout, table)


def show(found: Sequence[Scores], seed: int) -> bool:
    """Prints the table; whether neither of the two beats the token table."""
    print(f"Corpus F1, means of {len(found)} features; differences with 95 % paired intervals\n")
    print("| explainer | EXPLAIN (seen) | HELDOUT | lost | HELDOUT − token_table |")
    print("| --- | ---: | ---: | ---: | --- |")
    beaten = True
    for name in EXPLAINERS:
        seen = float(np.mean([s.explain[name] for s in found]))
        fresh = float(np.mean([s.heldout[name] for s in found]))
        differences = [s.heldout[name] - s.token_table for s in found]
        low, high = paired_interval(differences, seed)
        mean = float(np.mean(differences))
        beaten = beaten and (name == "lexical" or mean <= 0)
        print(
            f"| {name} | {seen:.3f} | {fresh:.3f} | {seen - fresh:.3f} | "
            f"{mean:+.3f} [{low:+.3f}, {high:+.3f}] |"
        )
    print(f"\ntoken_table on HELDOUT: {np.mean([s.token_table for s in found]):.3f}")
    print(f"bar {'reached' if beaten else 'NOT reached'}")
    return beaten


async def run(arguments: argparse.Namespace) -> int:
    """0 where remembering does not pay, 1 where it does."""
    source = FolderSource(arguments.index, arguments.model, None)
    features, _, _ = await draw(source, arguments.count, arguments.seed)
    found = [await measure(source, feature, arguments.seed) for feature in features]
    return 0 if show(found, arguments.seed) else 1


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=40, help="eligible features")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        use_demo(arguments, Path(scratch))
        code = asyncio.run(run(arguments))
    raise SystemExit(code)


if __name__ == "__main__":
    main()
