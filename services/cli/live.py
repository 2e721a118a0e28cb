"""Runs as they go on: a table that moves on a terminal, lines everywhere else."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from saexplain.common.v1.usage_pb2 import LlmUsage
from saexplain.explanation.v1 import explanation_pb2 as pb
from services.cli.follow import FollowedRun
from services.cli.visible import plain

_GLYPHS = {
    "SUPPORTED": ("●", "green"),
    "REFUTED": ("✗", "red"),
    "REJECTED": ("✗", "red"),
    "SUPERSEDED": ("↻", "dim"),
    "OPEN": ("○", "yellow"),
}


@contextlib.contextmanager
def watched(
    console: Console, runs: Sequence[FollowedRun]
) -> Iterator[Callable[[FollowedRun], None]]:
    """Shows the runs for the length of the body; yields what to call after a change."""
    if not console.is_terminal:
        yield lambda run: console.print(plain(_line(run)), soft_wrap=True)
        return
    with Live(_table(runs), console=console, refresh_per_second=8) as live:
        yield lambda run: live.update(_table(runs))


def usage_text(usage: LlmUsage) -> tuple[str, str]:
    """Tokens and cost of language models; the cost is `?` where no price is known."""
    if not usage.request_count:
        return "0", "–"
    tokens = usage.prompt_token_count + usage.completion_token_count
    cost = f"{usage.cost:.4f} {usage.currency_code}" if usage.HasField("cost") else "?"
    return f"{tokens:,}", cost


def _table(runs: Sequence[FollowedRun]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("feature", "step"):
        table.add_column(title, no_wrap=True)
    for title in ("round", "probes", "tokens", "cost"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("hypotheses")
    for run in runs:
        tokens, cost = usage_text(run.usage)
        table.add_row(
            run.feature.rpartition("/")[2],
            plain(*_state(run)),
            str(run.round or ""),
            str(run.probe_count or ""),
            tokens,
            cost,
            _hypotheses(run, in_full=len(runs) == 1),
        )
    return table


def _state(run: FollowedRun) -> tuple[str, str]:
    if run.error is not None:
        return run.error.reason or run.error.status, "red"
    if run.result is None:
        return run.step, "cyan"
    name = pb.RunState.Name(run.result.state).removeprefix("RUN_STATE_").lower()
    return name, "green" if run.succeeded else "red"


def _hypotheses(run: FollowedRun, *, in_full: bool) -> Text:
    """A glyph each; with their statements and counts where there is room for them."""
    text = Text()
    for hypothesis in run.hypotheses:
        glyph, style = _GLYPHS.get(hypothesis.status, ("?", ""))
        text.append(glyph, style=style)
        if in_full:
            text.append_text(
                plain(
                    f" {hypothesis.statement}"
                    f" ({hypothesis.positive_passed_count}/{hypothesis.positive_count} active,"
                    f" {hypothesis.negative_passed_count}/{hypothesis.negative_count} silent)\n"
                )
            )
    if not in_full and run.hypotheses:
        leading = next((h for h in run.hypotheses if h.status == "SUPPORTED"), run.hypotheses[0])
        text.append_text(plain(f" {leading.statement}"))
        text.truncate(72, overflow="ellipsis")
    return text


def _line(run: FollowedRun) -> str:
    feature = run.feature.rpartition("/")[2]
    state, _ = _state(run)
    if run.error is not None:
        return f"{feature} {state}: {run.error.message}"
    tokens, cost = usage_text(run.usage)
    counts = f"round {run.round}, {run.probe_count} probes, {tokens} tokens, cost {cost}"
    return f"{feature} {state} ({counts}) {'' if run.result else run.message}".rstrip()
