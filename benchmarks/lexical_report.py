"""Tables of the lexical benchmark: means with paired intervals, strata, what fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np

from benchmarks.lexical_run import Outcome, values
from saexplain.common.v1.explanation_pb2 import ExplanationStatus
from saexplain.common.v1.window_pb2 import Window
from services.common.pattern.tokens import is_bare_word, text_of, without_leading_space
from services.orchestrator import evidence as gathering
from services.scorer.statistics.derived import gap_closed

BASELINES = ("top_token", "token_table")
REPLICATES = 10_000
DENSITIES = (0.0, 1e-3, 3e-3, 1e-2, 1.0)
"""Edges of the strata of density; the last is the dense one of the funnel."""
WORST_SHARE = 0.1

Row = dict[str, object]


def paired_interval(differences: Sequence[float], seed: int) -> tuple[float, float]:
    """95 % bootstrap interval of the mean difference, over features."""
    array = np.asarray(differences)
    draws = np.random.default_rng(seed).integers(len(array), size=(REPLICATES, len(array)))
    low, high = np.percentile(array[draws].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def comparison(outcomes: Sequence[Outcome], metric: str, seed: int, method: str = "corpus") -> Row:
    """Means of one metric with paired intervals against each baseline; features on which a
    side is undefined count as 0 there in the corpus score, and not at all elsewhere."""
    mine = values(outcomes, metric, "lexical", method)
    row: Row = {"features": len(outcomes), "lexical": float(np.mean(mine))}
    for name in BASELINES:
        theirs = values(outcomes, metric, name, method)
        differences = [a - b for a, b in zip(mine, theirs, strict=True)]
        row[name] = float(np.mean(theirs))
        row[f"minus_{name}"] = float(np.mean(differences))
        row[f"minus_{name}_interval"] = paired_interval(differences, seed)
    row["share_of_table"] = row["lexical"] / row["token_table"] if row["token_table"] else None  # type: ignore[operator]
    row["gap_closed"] = gap_closed(*(row[n] for n in ("lexical", *BASELINES)))  # type: ignore[arg-type]
    return row


def print_features(outcomes: Sequence[Outcome]) -> None:
    """One line per feature."""
    print("feature  status          pearson top    table   f1     top    table  ceiling  label")
    for o in outcomes:
        numbers = [
            values([o], metric, who)[0]
            for metric in ("pearson", "f1")
            for who in ("lexical", *BASELINES)
        ]
        cells = "  ".join(f"{n:5.2f}" for n in numbers)
        ceiling = f"{_ceiling(o):7.2f}" if _ceiling(o) is not None else "      –"
        print(f"{o.feature:7d}  {_status(o):14s}  {cells}  {ceiling}  {o.explanation.label}")


def print_primary(outcomes: Sequence[Outcome], table: Mapping[str, Row]) -> None:
    """Corpus F1 and Pearson over all eligible features."""
    print(f"\nends: {dict(Counter(map(_status, outcomes)))}")
    supported, live = (sum(o.supported[i] for o in outcomes) for i in (0, 1))
    print(f"hypotheses supported by probes: {supported} of {live}")
    print(f"median seconds per feature: {np.median([o.seconds for o in outcomes]):.2f}")
    ceilings = [c for c in map(_ceiling, outcomes) if c is not None]
    if ceilings:
        low = float(np.mean(np.array(ceilings) < 0.8))
        print(f"exemplar ceiling: mean {np.mean(ceilings):.2f}, below 0.8 for {low:.0%}")
    print("\n" + _heading("corpus, HELDOUT"))
    for metric, row in table.items():
        print(_line(metric, row))


def print_strata(outcomes: Sequence[Outcome], seed: int) -> None:
    """Corpus Pearson and F1 by density, and for features of low and high ceiling."""
    print("\n" + _heading("by density"))
    for low, high in pairwise(DENSITIES):
        mine = [o for o in outcomes if low <= o.facts.density < high]
        for metric in ("pearson", "f1"):
            if mine:
                name = f"{low:g} to {high:g}, {metric}"
                print(_line(name, comparison(mine, metric, seed)))
    print("\n" + _heading("by exemplar ceiling"))
    for name, keep in (("below 0.8", lambda c: c < 0.8), ("from 0.8", lambda c: c >= 0.8)):
        mine = [o for o in outcomes if (c := _ceiling(o)) is not None and keep(c)]
        for metric in ("pearson", "f1"):
            if mine:
                print(_line(f"{name}, {metric}", comparison(mine, metric, seed)))


def print_methods(outcomes: Sequence[Outcome], methods: Sequence[str], seed: int) -> None:
    """Every metric of the other methods where explanation and top token are both defined."""
    print("\n" + _heading("other scores, explained features"))
    for method in methods:
        asked = [o for o in outcomes if method in o.scores]
        metrics = list(asked[0].scores[method]) if asked else []
        for metric in metrics:
            mine = [o for o in asked if o.scores[method][metric]["lexical"] is not None]
            both = [o for o in mine if o.scores[method][metric].get("top_token") is not None]
            if both:
                print(_line(f"{method} {metric}", comparison(both, metric, seed, method)))
            elif mine:
                mean = float(np.mean(values(mine, metric, "lexical", method)))
                print(f"| {method} {metric} | {len(mine)} | {mean:.3f} | – | – | – | – | – |")


def print_failures(outcomes: Sequence[Outcome]) -> None:
    """The worst tenth by Pearson beside the others: what they have in common."""
    pearson = np.array(values(outcomes, "pearson", "lexical"))
    order = np.argsort(pearson, kind="stable")
    count = max(1, round(WORST_SHARE * len(outcomes)))
    worst = [outcomes[i] for i in order[:count]]
    others = [outcomes[i] for i in order[count:]]
    print(f"\nThe worst {count} by Pearson beside the other {len(others)}, means\n")
    print("| trait | worst | others |\n| --- | ---: | ---: |")
    for name, trait in TRAITS.items():
        print(f"| {name} | {_mean(map(trait, worst)):.3g} | {_mean(map(trait, others)):.3g} |")
    print("\n| feature | ends | Pearson | table | density | commonest peaks | says |")
    print("| ---: | --- | ---: | ---: | ---: | --- | --- |")
    for o in worst:
        peaks = Counter(text_of(p) for p in _peaks(o)).most_common(4)
        shown = ", ".join(f"{text!r}" for text, _ in peaks)
        print(
            f"| {o.feature} | {_status(o)} | {values([o], 'pearson', 'lexical')[0]:.2f} | "
            f"{values([o], 'pearson', 'token_table')[0]:.2f} | {o.facts.density:.1e} | {shown} | "
            f"{o.explanation.label} |"
        )


def _exemplars(outcome: Outcome) -> list[Window]:
    return gathering.top_windows(outcome.evidence.windows)


def _peaks(outcome: Outcome) -> list[bytes]:
    """The tokens at which the exemplars peak."""
    return [w.tokens.token_bytes[gathering.peak_index(w)] for w in _exemplars(outcome)]


def _share(outcome: Outcome, of: Callable[[bytes], bool]) -> float:
    peaks = _peaks(outcome)
    return sum(map(of, peaks)) / len(peaks)


def _is_letters(token: bytes) -> bool:
    return text_of(without_leading_space(token)).isalpha()


def _ceiling(outcome: Outcome) -> float | None:
    has = outcome.evidence.HasField("ceiling")
    return outcome.evidence.ceiling.active_share if has else None


def _conditional(outcome: Outcome) -> float:
    """Share of the rules that ask for something to the left."""
    rules = [rule for part in outcome.explanation.pattern.parts for rule in part.rules]
    return sum(bool(rule.left) for rule in rules) / len(rules) if rules else float("nan")


TRAITS: Mapping[str, Callable[[Outcome], float]] = {
    "Pearson": lambda o: values([o], "pearson", "lexical")[0],
    "Pearson of the token table": lambda o: values([o], "pearson", "token_table")[0],
    "Pearson of the top token": lambda o: values([o], "pearson", "top_token")[0],
    "density": lambda o: o.facts.density,
    "distinct peak tokens per exemplar": lambda o: len(set(_peaks(o))) / len(_peaks(o)),
    "peaks on digits": lambda o: _share(o, lambda t: text_of(t).strip().isdecimal()),
    "peaks on punctuation or whitespace": lambda o: _share(
        o, lambda t: not any(c.isalnum() for c in text_of(t))
    ),
    "peaks on words": lambda o: _share(o, _is_letters),
    "peaks within a word (no leading space)": lambda o: _share(o, is_bare_word),
    "exemplar ceiling": lambda o: float("nan") if _ceiling(o) is None else float(_ceiling(o) or 0),
    "rules with a left condition": _conditional,
}
"""What may explain a failure."""


def _heading(what: str) -> str:
    names = (what, "features", "lexical", *BASELINES, "− top_token", "− token_table", "gap closed")
    return f"| {' | '.join(names)} |\n| --- |{' ---: |' * 4} --- | --- | ---: |"


def _line(name: str, row: Row) -> str:
    means = " | ".join(f"{row[who]:.3f}" for who in ("lexical", *BASELINES))
    differences = " | ".join(_difference(row, who) for who in BASELINES)
    gap = "–" if row["gap_closed"] is None else f"{row['gap_closed']:.2f}"
    return f"| {name} | {row['features']} | {means} | {differences} | {gap} |"


def _difference(row: Row, who: str) -> str:
    low, high = row[f"minus_{who}_interval"]  # type: ignore[misc]
    return f"{row[f'minus_{who}']:+.3f} [{low:+.3f}, {high:+.3f}]"


def _status(outcome: Outcome) -> str:
    name = ExplanationStatus.Name(outcome.explanation.status)
    return name.removeprefix("EXPLANATION_STATUS_").lower()


def _mean(numbers: Iterable[float]) -> float:
    return float(np.nanmean(list(numbers)))
