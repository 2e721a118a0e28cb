"""One self-contained HTML file per run: what was found, how well it holds, and why."""

from services.cli.report.render import render_report

__all__ = ["render_report"]
