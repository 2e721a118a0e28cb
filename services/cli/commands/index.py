"""`saexplain index`: build and look at indexes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from saexplain.activation.v1.activation_pb2 import IndexConfig
from saexplain.explanation.v1 import explanation_pb2 as pb
from saexplain_client import AsyncSaexplainClient, is_terminal
from services.cli import requests
from services.cli.connection import connect
from services.cli.exit_codes import ExitCode
from services.cli.options import Address, Json, Project, State
from services.cli.output import Output, as_dict, as_dicts
from services.cli.running import run
from services.cli.tables import index_table
from services.common.names import index_name, parse_index

app = typer.Typer(help="Build and look at indexes.", no_args_is_help=True)
_POLL_SECONDS = 0.5

Name = Annotated[str, typer.Argument(help="Name of an index, or the id alone.")]


@app.command()
def create(
    sae: Annotated[str, typer.Argument(help="SAE, such as saes/demo or demo.")],
    corpus: Annotated[
        str,
        typer.Argument(
            help="File (.jsonl, .txt, .md, .parquet, .arrow; .gz, .zst), folder of files, URL, or"
            " dataset:NAME?split=train."
        ),
    ],
    context_tokens: Annotated[int, typer.Option(help="Tokens of a context; 0: 128.")] = 0,
    window_tokens: Annotated[int, typer.Option(help="Tokens of a window; 0: 32.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of splits and samples.")] = 0,
    max_documents: Annotated[int, typer.Option(help="Stop after so many; 0: all.")] = 0,
    text_column: Annotated[str, typer.Option(help="Column of the text.")] = "",
    id_column: Annotated[str, typer.Option(help="Column of a document's id.")] = "",
    source_column: Annotated[str, typer.Option(help="Column of its page or book.")] = "",
    kind_column: Annotated[str, typer.Option(help="Column of its kind of text.")] = "",
    request_id: Annotated[str, typer.Option(help="Another one reads the corpus again.")] = "",
    wait: Annotated[bool, typer.Option(help="Wait until it is built.")] = True,
    address: Address = None,
    state: State = None,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Build an index over a corpus, or find the one that is there.

    The build is durable: after a Ctrl-C it goes on.
    """
    output = Output(json_wanted=json)
    # The indexer may run in another folder.
    location = str(Path(corpus).resolve()) if Path(corpus).exists() else corpus

    async def body() -> ExitCode:
        config = IndexConfig(
            sae=requests.sae_of(sae),
            corpus=location,
            context_token_count=context_tokens,
            window_token_count=window_tokens,
            seed=seed,
            max_document_count=max_documents,
            text_column=text_column,
            id_column=id_column,
            source_column=source_column,
            kind_column=kind_column,
        )
        async with connect(address, state, project) as client:
            index = await client.create_index(config, request_id=request_id)
            if wait:
                index = await build(client, index, output)
        return _told(index, output)

    run(output, body())


@app.command(name="list")
def list_(
    address: Address = None,
    state: State = None,
    project: Project = "default",
    json: Json = False,
) -> None:
    """List indexes, newest first."""
    output = Output(json_wanted=json)

    async def body() -> ExitCode:
        async with connect(address, state, project) as client:
            found = [index async for index in client.list_indexes()]
        output.result({"indexes": as_dicts(found)}, index_table(found))
        return ExitCode.OK

    run(output, body())


@app.command()
def show(
    name: Name,
    address: Address = None,
    state: State = None,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Show one index with its progress."""
    output = Output(json_wanted=json)

    async def body() -> ExitCode:
        async with connect(address, state, project) as client:
            index = await client.get_index(_full_name(name, project))
        output.result(as_dict(index), index_table([index]))
        return ExitCode.OK

    run(output, body())


@app.command()
def cancel(
    name: Name,
    address: Address = None,
    state: State = None,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Ask a build to stop; finished shards are kept."""
    output = Output(json_wanted=json)

    async def body() -> ExitCode:
        async with connect(address, state, project) as client:
            index = await client.cancel_index(_full_name(name, project))
        output.result(as_dict(index), index_table([index]))
        return ExitCode.OK

    run(output, body())


async def build(
    client: AsyncSaexplainClient, index: pb.IndexResource, output: Output
) -> pb.IndexResource:
    """Waits until an index is built, however that ends, and shows the progress."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("tokens, {task.fields[speed]:,.0f}/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=output.err) as progress:
        task = progress.add_task("sweep", total=None, speed=0.0)
        while True:
            progress.update(
                task,
                description="sweep" if index.total_token_count else "plan",
                total=index.total_token_count or None,
                completed=index.done_token_count,
                speed=index.tokens_per_second,
            )
            if is_terminal(index.state):
                return index
            await asyncio.sleep(_POLL_SECONDS)
            index = await client.get_index(index.name)


def _told(index: pb.IndexResource, output: Output) -> ExitCode:
    output.result(as_dict(index), index_table([index]))
    if index.HasField("failure"):
        output.note(f"error: {index.failure.reason}: {index.failure.message}")
    ended_badly = is_terminal(index.state) and index.state != pb.RUN_STATE_SUCCEEDED
    return ExitCode.RUN_FAILED if ended_badly else ExitCode.OK


def _full_name(name: str, project: str) -> str:
    full = name if "/" in name else index_name(f"projects/{project}", name)
    parse_index(full, "NAME")
    return full
