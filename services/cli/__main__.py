"""`saexplain`, also as `python -m services.cli`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from services.cli.app import build_app


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code (see `exit_codes.ExitCode`)."""
    try:
        build_app()(args=arguments, prog_name="saexplain")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
