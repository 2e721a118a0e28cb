"""What a wanted precision needs, from scores that there are, or without any."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from saexplain.common.v1.score_pb2 import Score
from services.cli.report.formats import MISSING, number
from services.cli.visible import plain
from services.common.errors import FailedPrecondition, InvalidArgument
from services.common.statistics.power import MOST, Need, ScoredFeature, examples_for_share, need

_OPTION = "--precision"
_SHARES = (0.5, 0.7, 0.9)


def without_scores(precision: float) -> dict[str, Need]:
    """Examples for a share, by the share; how far features differ is not known.

    Raises:
        InvalidArgument: not between 0 and 0.5.
    """
    _check(precision)
    return {
        f"a share of {share:g}": Need(
            examples_per_feature=examples_for_share(precision, share),
            features=None,
            between_sd=None,
            within_sd=math.sqrt(share * (1 - share)),
            present_half_width=None,
        )
        for share in _SHARES
    }


def needs(scores: Sequence[Iterable[Score]], precision: float) -> dict[str, Need]:
    """What the mean of every metric needs, by `method.metric`.

    Args:
        scores: of one explanation each.

    Raises:
        InvalidArgument: not between 0 and 0.5.
        FailedPrecondition: no score has a value with an interval.
    """
    _check(precision)
    by_metric: dict[str, list[ScoredFeature]] = {}
    for listed in scores:
        for score in listed:
            examples = score.positive_count + score.negative_count
            if not (score.HasField("value") and score.HasField("interval") and examples):
                continue
            by_metric.setdefault(f"{score.method}.{score.metric}", []).append(
                ScoredFeature(score.value, score.interval.low, score.interval.high, examples)
            )
    if not by_metric:
        raise FailedPrecondition("none of these has a score with an interval")
    return {metric: need(found, precision) for metric, found in by_metric.items()}


def needs_table(found: Mapping[str, Need], precision: float) -> Table:
    """A row per metric."""
    table = Table(
        title=f"For an interval of ± {precision:g} at 95 %",
        title_justify="left",
        caption="Examples: for one feature's own score. Features: for their mean, at the "
        "present number of examples; the spread between features has to be seen first.",
        caption_justify="left",
        box=None,
        pad_edge=False,
        header_style="bold",
    )
    table.add_column("metric", no_wrap=True)
    for title in ("examples per feature", "features", "now ±", "spread of features"):
        table.add_column(title, justify="right", no_wrap=True)
    for metric, wanted in found.items():
        known = wanted.present_half_width is not None
        table.add_row(
            plain(metric),
            _count(wanted.examples_per_feature, known=True),
            _count(wanted.features, known=known),
            number(wanted.present_half_width, 3),
            number(wanted.between_sd, 3),
        )
    return table


def needs_as_json(found: Mapping[str, Need], precision: float) -> dict[str, Any]:
    """The same as a document."""
    return {
        "precision": precision,
        "needs": {metric: dataclasses.asdict(wanted) for metric, wanted in found.items()},
    }


def _check(precision: float) -> None:
    if not 0 < precision < 0.5:
        raise InvalidArgument("is a half-width between 0 and 0.5", _OPTION)


def _count(value: int | None, *, known: bool) -> str:
    if value is not None:
        return f"{value:,}"
    return f"> {MOST:,}" if known else MISSING
