"""`saexplain import`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from saexplain.agent.v1.agent_pb2 import ExplainerOptions
from saexplain_client import AsyncSaexplainClient
from services.cli import requests
from services.cli.commands.explain import runs_as_json, worst_code, write_report
from services.cli.connection import connect
from services.cli.exit_codes import ExitCode
from services.cli.follow import ExplainRequest, FollowedRun, explain_all
from services.cli.live import watched
from services.cli.options import Address, Json, Project, State
from services.cli.output import Output
from services.cli.running import run
from services.cli.tables import results_table
from services.common.errors import InvalidArgument
from services.common.explanation_files import ImportedExplanation, read_explanations
from services.common.names import FeatureRef, parse_sae

EXPLAINER = "import"


def import_(
    file: Annotated[
        Path, typer.Argument(help="JSON Lines, CSV or Neuronpedia's export; gzip or not.")
    ],
    sae: Annotated[
        str, typer.Option(help="SAE of rows that give bare indices, such as saes/demo.")
    ] = "",
    most: Annotated[int, typer.Option(help="Explanations at most, the first ones.")] = 100,
    methods: Annotated[
        str, typer.Option(help="Scoring methods, comma-separated; empty for all that can run.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Seed of every random choice.")] = 0,
    model: Annotated[
        str, typer.Option(help="Language model that judges; else the service's.")
    ] = "",
    index: Annotated[str, typer.Option(help="Index; else the SAE's default.")] = "",
    report: Annotated[Path | None, typer.Option(help="Write an HTML report here.")] = None,
    address: Address = None,
    state: State = None,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Score explanations from elsewhere as ours are: each becomes a run of its own."""
    output = Output(json_wanted=json)

    async def body() -> ExitCode:
        found = read_explanations(file)[:most]
        runs = [FollowedRun(feature_of(entry, sae)) for entry in found]
        asked = [
            ExplainRequest(
                explainer=options_of(entry, seed),
                methods=requests.method_options(methods, EXPLAINER, seed, model),
                index=index,
                seed=seed,
            )
            for entry in found
        ]
        async with connect(address, state, project) as client:
            await _follow(client, runs, asked, output)
            if report is not None:
                await write_report(client, [r.name for r in runs if r.succeeded], report, output)
        output.result(runs_as_json(runs), results_table(runs))
        return worst_code(runs, output)

    run(output, body())


def feature_of(entry: ImportedExplanation, sae: str) -> str:
    """The name of the feature that an entry explains.

    Raises:
        InvalidArgument: the entry gives a bare index, and there is no SAE; or another one.
    """
    named = requests.sae_of(sae) if sae else ""
    if entry.sae and named and entry.sae != named:
        raise InvalidArgument(f"the file explains features of {entry.sae}", "--sae")
    if not (entry.sae or named):
        raise InvalidArgument("the file gives bare indices: name their SAE", "--sae")
    return FeatureRef(parse_sae(entry.sae or named, "--sae"), entry.index).name


def options_of(entry: ImportedExplanation, seed: int) -> ExplainerOptions:
    """Options of the explainer that passes an entry on."""
    return ExplainerOptions(explainer=EXPLAINER, seed=seed, given_explanation=entry.explanation)


async def _follow(
    client: AsyncSaexplainClient,
    runs: Sequence[FollowedRun],
    asked: Sequence[ExplainRequest],
    output: Output,
) -> None:
    with watched(output.err, runs) as changed:
        await asyncio.gather(
            *(
                explain_all(client, [followed], request, changed)
                for followed, request in zip(runs, asked, strict=True)
            )
        )
