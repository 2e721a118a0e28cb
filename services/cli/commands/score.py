"""`saexplain score`: scores what is there already, or says what a precision needs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from saexplain.explanation.v1 import explanation_pb2 as pb
from saexplain.scorer.v1.scorer_pb2 import MethodOptions
from saexplain_client import AsyncSaexplainClient, SaexplainClientError
from services.cli import imports, requests
from services.cli.commands.explain import runs_as_json, worst_code, write_report
from services.cli.commands.inspect import full_name
from services.cli.connection import connect
from services.cli.exit_codes import ExitCode
from services.cli.follow import FollowedRun, followed
from services.cli.live import watched
from services.cli.options import Address, Json, Project, State
from services.cli.output import Output
from services.cli.precision import needs, needs_as_json, needs_table, without_scores
from services.cli.running import run
from services.cli.tables import facts_table, results_table, score_table
from services.common.errors import InvalidArgument


@dataclass(frozen=True)
class _Subject:
    """What one run scores."""

    subject: str | pb.GivenExplanation
    feature: str
    has_pattern: bool = False


@dataclass(frozen=True)
class _Asked:
    """What all runs have in common."""

    methods: Sequence[MethodOptions] = field(default_factory=list)
    index: str = ""
    seed: int = 0


def score(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME...]", help="Explanations, or their ids."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="Explanations from elsewhere: JSON Lines, CSV, Neuronpedia's export."),
    ] = None,
    sae: Annotated[
        str, typer.Option(help="SAE of rows that give bare indices, such as saes/demo.")
    ] = "",
    most: Annotated[int, typer.Option(min=1, help="Of the file, at most the first ones.")] = 100,
    methods: Annotated[
        str, typer.Option(help="Scoring methods, comma-separated; empty for the default ones.")
    ] = "",
    judge: Annotated[
        str, typer.Option(help="pattern or llm; else pattern where there is one.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Seed of sampling and bootstrap.")] = 0,
    model: Annotated[str, typer.Option(help="Language model that judges; else its own.")] = "",
    index: Annotated[str, typer.Option(help="Index; else the explanation's own.")] = "",
    precision: Annotated[
        float | None,
        typer.Option(help="Half-width of an interval: say what it needs, from these scores."),
    ] = None,
    at_once: Annotated[int, typer.Option(min=1, max=256, help="Runs in flight.")] = 8,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report here.")] = None,
    address: Address = None,
    state: State = None,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Score explanations that are there already, each as a run of its own.

    With --precision alone: how many examples a feature's score needs. With --precision and
    names: nothing is run; the scores that these have say how many examples and features.
    """
    output = Output(json_wanted=json)

    async def body() -> ExitCode:
        if precision is not None and not (names or file):
            bare = without_scores(precision)
            output.result(needs_as_json(bare, precision), needs_table(bare, precision))
            return ExitCode.OK
        if bool(names) == (file is not None):
            raise InvalidArgument("or --file, one of them", "NAME")
        async with connect(address, state, project) as client:
            if precision is not None:
                return await _precision(client, _full(names, project), precision, output)
            subjects = (
                _of_file(file, sae, most)
                if file is not None
                else await _of_names(client, _full(names, project))
            )
            asked = [
                _Asked(
                    requests.method_options(
                        methods, has_pattern=s.has_pattern, seed=seed, model=model, judge=judge
                    ),
                    index,
                    seed,
                )
                for s in subjects
            ]
            runs = [FollowedRun(s.feature) for s in subjects]
            with watched(output.err, runs) as changed:
                await _score_all(client, subjects, asked, runs, changed, at_once)
            if report is not None:
                await write_report(client, [r.name for r in runs if r.succeeded], report, output)
        _show(output, runs)
        return worst_code(runs, output)

    run(output, body())


def _full(names: Sequence[str] | None, project: str) -> list[str]:
    return [full_name(name, project) for name in dict.fromkeys(names or ())]


def _of_file(file: Path, sae: str, most: int) -> list[_Subject]:
    subjects = []
    for entry in imports.read(file, "--file")[:most]:
        feature = imports.feature_of(entry, sae)
        given = pb.GivenExplanation(feature=feature, explanation=entry.explanation)
        subjects.append(_Subject(given, feature))
    return subjects


async def _of_names(client: AsyncSaexplainClient, names: Sequence[str]) -> list[_Subject]:
    found = [await client.get_explanation(name) for name in names]
    return [_Subject(e.name, e.feature, e.explanation.HasField("pattern")) for e in found]


async def _score_all(
    client: AsyncSaexplainClient,
    subjects: Sequence[_Subject],
    asked: Sequence[_Asked],
    runs: Sequence[FollowedRun],
    changed: Callable[[FollowedRun], None],
    at_once: int,
) -> None:
    gate = asyncio.Semaphore(at_once)

    async def one(subject: _Subject, wanted: _Asked, run: FollowedRun) -> None:
        async with gate:
            try:
                created = await client.score_explanation(
                    subject.subject,
                    methods=wanted.methods,
                    index=wanted.index,
                    seed=wanted.seed,
                )
                await followed(client, run, created.name, changed)
            except SaexplainClientError as error:
                run.error = error
            changed(run)

    await asyncio.gather(*map(one, subjects, asked, runs))


def _show(output: Output, runs: Sequence[FollowedRun]) -> None:
    """One explanation in full; several in a row each."""
    document = runs_as_json(runs)
    if len(runs) == 1 and runs[0].result is not None:
        result = runs[0].result
        output.result(document, facts_table(result), "", score_table(result.scores))
    else:
        output.result(document, results_table(runs))


async def _precision(
    client: AsyncSaexplainClient, names: Sequence[str], precision: float, output: Output
) -> ExitCode:
    if not names:
        raise InvalidArgument("takes the names of scored explanations", "--precision")
    scores = [(await client.get_explanation(name)).scores for name in names]
    found = needs(scores, precision)
    output.result(needs_as_json(found, precision), needs_table(found, precision))
    return ExitCode.OK
