"""The commands of `saexplain`, put together."""

from __future__ import annotations

import typer

from services.cli.commands import compare, explain, index, inspect, score, up
from services.cli.commands.demo import demo

_EPILOG = (
    "Exit codes: 0 ok, 1 a run failed, 2 bad usage, 3 unavailable, 4 not found, 130 interrupted."
)


def build_app() -> typer.Typer:
    """The application with all its commands."""
    app = typer.Typer(
        name="saexplain",
        help="Explains features of sparse autoencoders, and tests what it says.",
        epilog=_EPILOG,
        no_args_is_help=True,
        add_completion=False,
        # A traceback helps nobody at a terminal; unforeseen errors still show a plain one.
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )
    app.command()(up.up)
    app.command()(up.down)
    app.command()(explain.explain)
    app.command()(score.score)
    app.command()(compare.compare)
    app.command()(inspect.show)
    app.command(name="list")(inspect.list_)
    app.command()(inspect.cancel)
    app.command()(inspect.report)
    app.add_typer(index.app, name="index")
    app.command()(demo)
    return app
