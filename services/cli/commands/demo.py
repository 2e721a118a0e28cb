"""`saexplain demo`: what `make demo` runs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from services.cli.commands.up import triton_wanted
from services.cli.demo.run import CORPUS, DemoOptions, run_demo
from services.cli.exit_codes import ExitCode
from services.cli.options import Json
from services.cli.output import Output
from services.cli.running import run
from services.cli.stack import Stack, StackConfig


def demo(
    state: Annotated[Path, typer.Option(help="State folder of the stack.")] = Path(".demo"),
    sae: Annotated[str, typer.Option(help="SAE; else the first of the registry.")] = "",
    features: Annotated[int, typer.Option(min=1, max=256, help="Features to explain.")] = 8,
    seed: Annotated[int, typer.Option(help="Seed of the choice and of the runs.")] = 0,
    rounds: Annotated[int, typer.Option(min=0, max=14, help="Rounds of probes at most.")] = 2,
    documents: Annotated[int, typer.Option(min=1, help="Documents to sweep live.")] = 120,
    report: Annotated[Path, typer.Option(help="Report to write.")] = Path("report.html"),
    corpus: Annotated[Path, typer.Option(help="Corpus of the shipped index.")] = CORPUS,
    triton: Annotated[
        bool, typer.Option("--triton", help="Serve the model with tritonserver; also TRITON=1.")
    ] = False,
    json: Json = False,
) -> None:
    """Start everything, sweep, explain features, report, stop everything.

    With OPENAI_API_KEY or OPENAI_BASE_URL the sage explainer does it, else the lexical one.
    """
    output = Output(json_wanted=json)
    config = StackConfig(state_dir=state.resolve(), triton=triton or triton_wanted())
    options = DemoOptions(
        sae=sae,
        feature_count=features,
        seed=seed,
        rounds=rounds,
        live_document_count=documents,
        report=report,
        corpus=corpus.resolve(),
    )
    run(output, _demo(config, options, output))


async def _demo(config: StackConfig, options: DemoOptions, output: Output) -> ExitCode:
    async with Stack(config, progress=lambda name, what: output.note(f"{name} {what}")) as stack:
        crash = asyncio.ensure_future(stack.failure())
        work = asyncio.ensure_future(run_demo(stack.addresses, options, output))
        try:
            await asyncio.wait({crash, work}, return_when=asyncio.FIRST_COMPLETED)
            if crash.done() and not work.done():
                # Its log says more than the errors of those that stood on it.
                raise crash.result()
            return await work
        finally:
            for task in (crash, work):
                task.cancel()
            await asyncio.gather(crash, work, return_exceptions=True)
