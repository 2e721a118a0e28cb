"""`saexplain explain`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from saexplain_client import AsyncSaexplainClient
from services.cli import requests
from services.cli.connection import connect
from services.cli.exit_codes import ExitCode, exit_code_of
from services.cli.failures import as_json
from services.cli.follow import ExplainRequest, FollowedRun, explain_all
from services.cli.live import watched
from services.cli.options import Address, Json, Project, State
from services.cli.output import Output, as_dict
from services.cli.report import render_report
from services.cli.running import run
from services.cli.tables import results_table


def explain(
    sae: Annotated[str, typer.Argument(help="SAE, such as saes/demo or demo.")],
    features: Annotated[list[int], typer.Argument(metavar="FEATURE...", help="Indices.")],
    explainer: Annotated[
        str, typer.Option(help="lexical (no LLM), sage, or one of its controls.")
    ] = "lexical",
    methods: Annotated[
        str, typer.Option(help="Scoring methods, comma-separated; empty for all that can run.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Seed of every random choice.")] = 0,
    rounds: Annotated[int | None, typer.Option(help="Rounds of probes at most.")] = None,
    model: Annotated[str, typer.Option(help="Language model; else the service's own.")] = "",
    index: Annotated[str, typer.Option(help="Index; else the SAE's default.")] = "",
    request_id: Annotated[
        str, typer.Option(help="Beginning of the request ids: a repeat finds the same runs.")
    ] = "",
    report: Annotated[Path | None, typer.Option(help="Write an HTML report here.")] = None,
    address: Address = None,
    state: State = None,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Explain features and follow the runs to their end.

    Runs are durable: after a Ctrl-C they go on, `saexplain list` finds them.
    """
    output = Output(json_wanted=json)

    async def body() -> ExitCode:
        runs = [FollowedRun(name) for name in requests.feature_names(sae, features)]
        request = ExplainRequest(
            explainer=requests.explainer_options(explainer, seed, model),
            methods=requests.method_options(
                methods,
                has_pattern=requests.predicts_by_itself(explainer),
                seed=seed,
                model=model,
            ),
            budget=requests.budget_of(rounds),
            index=index,
            seed=seed,
            request_id=request_id,
        )
        async with connect(address, state, project) as client:
            await follow(client, runs, request, output)
            if report is not None:
                await write_report(client, [r.name for r in runs if r.succeeded], report, output)
        output.result(runs_as_json(runs), results_table(runs))
        return worst_code(runs, output)

    run(output, body())


async def follow(
    client: AsyncSaexplainClient,
    runs: Sequence[FollowedRun],
    request: ExplainRequest,
    output: Output,
) -> None:
    """Explains and shows the progress; says what goes on where it is interrupted."""
    try:
        with watched(output.err, runs) as changed:
            await explain_all(client, runs, request, changed)
    finally:
        going_on = [r.name for r in runs if r.name and r.result is None and r.error is None]
        if going_on:
            output.note(f"still running: {', '.join(going_on)}")


async def write_report(
    client: AsyncSaexplainClient, names: Sequence[str], path: Path, output: Output
) -> bool:
    """Writes the report of the explanations; False where there is none to report."""
    if not names:
        output.note("no report: nothing was explained")
        return False
    bundles = [await client.get_dossier(name) for name in names]
    html = render_report(bundles, created=datetime.now())
    path.write_text(html, encoding="utf-8")  # noqa: ASYNC240 -- a file at the end of a command
    output.note(f"report written to {path}")
    return True


def runs_as_json(runs: Sequence[FollowedRun]) -> dict[str, object]:
    """The results of runs as one document."""
    return {"explanations": [_run_as_json(run) for run in runs]}


def worst_code(runs: Sequence[FollowedRun], output: Output) -> ExitCode:
    """The exit code of a command over several runs; tells why requests were refused."""
    refused = [run.error for run in runs if run.error is not None]
    if refused:
        if not output.json_wanted:
            output.failure(refused[0])
        return exit_code_of(refused[0].status)
    return ExitCode.OK if all(run.succeeded for run in runs) else ExitCode.RUN_FAILED


def _run_as_json(run: FollowedRun) -> dict[str, object]:
    if run.error is not None:
        return {"feature": run.feature, "name": run.name, **as_json(run.error)}
    assert run.result is not None, "a run that was followed without an error has ended"
    return as_dict(run.result)
