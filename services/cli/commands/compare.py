"""`saexplain compare`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from services.cli import requests
from services.cli.comparison import choosing
from services.cli.comparison.asking import Asked, all_rows, candidates
from services.cli.comparison.model import Comparison, Question
from services.cli.comparison.plot import draw
from services.cli.comparison.results import compare as compute
from services.cli.comparison.rows import Row
from services.cli.comparison.tables import TextTable, all_tables
from services.cli.comparison.written import as_json, json_text, latex, markdown, rows_csv
from services.cli.connection import connect
from services.cli.exit_codes import ExitCode
from services.cli.options import Address, Json, Project, State
from services.cli.output import Output
from services.cli.running import run
from services.cli.visible import plain
from services.common.errors import InvalidArgument
from services.common.statistics.paired import REPLICATES

PRIMARY = "corpus.f1"


@dataclass(frozen=True)
class _Choice:
    """How features are chosen: named, or drawn."""

    features: str
    sample: int
    stratum: str
    seed: int
    most: int

    def of(self, found: choosing.Population) -> list[int]:
        if bool(self.features) == bool(self.sample):
            raise InvalidArgument("or --sample, one of them", "--features")
        if self.sample > self.most:
            raise InvalidArgument(f"at most {self.most} features", "--sample")
        if self.sample:
            return choosing.draw(found, self.stratum, self.sample, self.seed)
        return choosing.parse_features(self.features, self.most)


def compare(
    sae: Annotated[str, typer.Argument(help="SAE, such as saes/demo or demo.")],
    explainers: Annotated[
        str,
        typer.Option(help="Comma-separated, the reference first; import:FILE for a file."),
    ],
    features: Annotated[str, typer.Option(help="Such as 3,17,20-29, or @FILE.")] = "",
    sample: Annotated[int, typer.Option(min=0, help="Draw so many features instead.")] = 0,
    stratum: Annotated[str, typer.Option(help="Of which stratum to draw.")] = "eligible",
    methods: Annotated[
        str, typer.Option(help="Scoring methods, comma-separated; empty for the default ones.")
    ] = "",
    primary: Annotated[
        str, typer.Option(help="The one metric named beforehand, as method.metric.")
    ] = PRIMARY,
    judge: Annotated[
        str, typer.Option(help="pattern or llm for all; else each explainer's own.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Seed of every random choice.")] = 0,
    samples: Annotated[
        int, typer.Option(min=100, max=1_000_000, help="Resamples of bootstrap and tests.")
    ] = REPLICATES,
    model: Annotated[str, typer.Option(help="Language model; else the service's own.")] = "",
    rounds: Annotated[int | None, typer.Option(help="Rounds of probes at most.")] = None,
    index: Annotated[str, typer.Option(help="Index; else the SAE's default.")] = "",
    again: Annotated[str, typer.Option(help="Any word: make new runs under it.")] = "",
    at_once: Annotated[int, typer.Option(min=1, max=256, help="Runs in flight.")] = 8,
    most: Annotated[int, typer.Option(min=1, help="Features at most.")] = 2000,
    to: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")] = Path(
        "comparison"
    ),
    address: Address = None,
    state: State = None,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Compare explainers on the same features: paired differences, cost, tables, a plot.

    Runs are durable and found again: after a Ctrl-C the same command goes on.
    """
    output = Output(json_wanted=json)
    asked = Asked(methods, judge, model, seed, index, rounds, again, at_once)
    choice = _Choice(features, sample, stratum, seed, most)

    async def body() -> ExitCode:
        _check(primary, methods, judge)
        name = requests.sae_of(sae)
        found = candidates(explainers, name)
        async with connect(address, state, project) as client:
            population = await choosing.population(client, name, index)
            wanted = requests.feature_names(name, choice.of(population))
            question = Question([c.name for c in found], wanted, primary, seed, samples)
            strata = {f: population.strata.get(int(f.rpartition("/")[2]), "") for f in wanted}
            rows = await all_rows(
                client,
                found,
                wanted,
                asked,
                strata,
                _progress(output, primary, len(found) * len(wanted)),
            )
        result = compute(rows, question, population.funnel)
        written = write(result, to)
        output.note(f"written to {to}: {', '.join(written)}")
        output.result(as_json(result), *(_shown(table) for table in all_tables(result)))
        return _code(result, output)

    run(output, body())


def write(result: Comparison, folder: Path) -> list[str]:
    """Writes all files of a comparison; returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, Callable[[], bytes]] = {
        "comparison.md": lambda: markdown(result).encode(),
        "comparison.tex": lambda: latex(result).encode(),
        "comparison.json": lambda: json_text(result).encode(),
        "rows.csv": lambda: rows_csv(result).encode(),
        "comparison.svg": lambda: draw(result, "svg"),
        "comparison.png": lambda: draw(result, "png"),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content())
    return list(files)


def _check(primary: str, methods: str, judge: str) -> None:
    """Refuses what could never have an answer before anything is paid for."""
    method, dot, metric = primary.partition(".")
    if not (method and dot and metric):
        raise InvalidArgument("is of the form method.metric", "--primary")
    named = [name.strip() for name in methods.split(",") if name.strip()]
    if named and method not in named:
        raise InvalidArgument(f"{method} is none of the methods {', '.join(named)}", "--primary")
    if not named and method != PRIMARY.partition(".")[0]:
        raise InvalidArgument(f"name {method} among --methods", "--primary")
    if judge not in ("", "pattern", "llm"):
        raise InvalidArgument(f"{judge!r} is none of pattern, llm", "--judge")


def _progress(output: Output, primary: str, total: int) -> Callable[[Row], None]:
    """A line per run; the first one whose dossier knows no such metric ends it all, before
    more is paid for a question without an answer."""
    done = 0

    def ended(row: Row) -> None:
        nonlocal done
        done += 1
        if row.values and primary not in row.values:
            raise InvalidArgument(f"{primary} is none of {', '.join(row.values)}", "--primary")
        feature = row.feature.rpartition("/")[2]
        output.note(f"{done}/{total} {row.explainer} {feature}: {row.label or row.outcome}")

    return ended


def _shown(table: TextTable) -> Table:
    """A table for the terminal."""
    shown = Table(
        title=table.title,
        caption=table.note or None,
        title_justify="left",
        caption_justify="left",
        box=None,
        pad_edge=False,
        header_style="bold",
    )
    for place, title in enumerate(table.header):
        left = table.prose or place == 0
        shown.add_column(title, justify="left" if left else "right", no_wrap=not table.prose)
    for row in table.rows:
        shown.add_row(*(plain(cell) for cell in row))
    return shown


def _code(result: Comparison, output: Output) -> ExitCode:
    """0 only if every run ended, and there is an answer."""
    broken = [row for row in result.failures if not row.ended_well]
    if broken:
        output.note(f"{len(broken)} of {len(result.rows)} runs failed: see their reasons")
        return ExitCode.RUN_FAILED
    if any(difference.found is None for difference in result.primary):
        output.note(f"no pair has a value of {result.question.primary}")
        return ExitCode.RUN_FAILED
    return ExitCode.OK
