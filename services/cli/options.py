"""Options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Address = Annotated[
    str | None,
    typer.Option(help="host:port of the orchestrator; else SAEXPLAIN_ADDRESS, else the stack."),
]
State = Annotated[
    Path | None,
    typer.Option(help="State folder of the stack; else SAEXPLAIN_STATE_DIR, else the user's."),
]
Project = Annotated[str, typer.Option(help="Id of the project.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
