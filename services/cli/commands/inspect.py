"""`saexplain show`, `list`, `cancel` and `report`: what there is already."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from saexplain.explanation.v1 import explanation_pb2 as pb
from services.cli import requests
from services.cli.commands.explain import write_report
from services.cli.connection import connect
from services.cli.exit_codes import ExitCode
from services.cli.options import Address, Json, Project, State
from services.cli.output import Output, as_dict, as_dicts
from services.cli.running import run
from services.cli.tables import explanation_table, facts_table, score_table
from services.common.errors import InvalidArgument
from services.common.names import explanation_name, parse_explanation

Name = Annotated[str, typer.Argument(help="Name of an explanation, or the id alone.")]


def full_name(name: str, project: str) -> str:
    """The name of an explanation given in full or as its id alone.

    Raises:
        InvalidArgument: it is neither.
    """
    full = name if "/" in name else explanation_name(f"projects/{project}", name)
    parse_explanation(full, "NAME")
    return full


def state_of(text: str) -> pb.RunState.ValueType:
    """A state by its name in lower case; unspecified for an empty one.

    Raises:
        InvalidArgument: there is no such state.
    """
    if not text:
        return pb.RUN_STATE_UNSPECIFIED
    known = [name.removeprefix("RUN_STATE_").lower() for name in pb.RunState.keys()][1:]  # noqa: SIM118
    if text.lower() not in known:
        raise InvalidArgument(f"{text!r} is none of {', '.join(known)}", "--run-state")
    return pb.RunState.Value(f"RUN_STATE_{text.upper()}")


def show(
    name: Name,
    dossier: Annotated[
        bool, typer.Option("--dossier", help="The whole dossier; implies --json.")
    ] = False,
    address: Address = None,
    state: State = None,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Show one explanation with its scores."""
    output = Output(json_wanted=json or dossier)

    async def body() -> ExitCode:
        async with connect(address, state, project) as client:
            full = full_name(name, project)
            if dossier:
                output.result(as_dict(await client.get_dossier(full)))
                return ExitCode.OK
            found = await client.get_explanation(full)
        output.result(as_dict(found), facts_table(found), "", score_table(found.scores))
        return ExitCode.OK

    run(output, body())


def list_(
    sae: Annotated[str, typer.Option(help="Only those of this SAE.")] = "",
    run_state: Annotated[str, typer.Option(help="Only those in this state.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 50,
    address: Address = None,
    state: State = None,
    project: Project = "default",
    json: Json = False,
) -> None:
    """List explanations, newest first."""
    output = Output(json_wanted=json)

    async def body() -> ExitCode:
        found: list[pb.ExplanationResource] = []
        wanted = requests.sae_of(sae) if sae else ""
        run_state_value = state_of(run_state)
        async with connect(address, state, project) as client:
            async for explanation in client.list_explanations(
                sae=wanted, state=run_state_value, page_size=min(limit, 1000)
            ):
                found.append(explanation)
                if len(found) == limit:
                    break
        output.result({"explanations": as_dicts(found)}, explanation_table(found))
        return ExitCode.OK

    run(output, body())


def cancel(
    name: Name,
    address: Address = None,
    state: State = None,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Ask a running explanation to stop."""
    output = Output(json_wanted=json)

    async def body() -> ExitCode:
        async with connect(address, state, project) as client:
            found = await client.cancel_explanation(full_name(name, project))
        output.result(as_dict(found), facts_table(found))
        return ExitCode.OK

    run(output, body())


def report(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Explanations.")],
    to: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = Path(
        "report.html"
    ),
    address: Address = None,
    state: State = None,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Write an HTML report of explanations."""
    output = Output(json_wanted=json)

    async def body() -> ExitCode:
        async with connect(address, state, project) as client:
            full = [full_name(name, project) for name in names]
            await write_report(client, full, to, output)
        output.result({"report": str(to), "explanations": full})
        return ExitCode.OK

    run(output, body())
