"""Folders that appear complete or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path


def put_folder(temporary: Path, folder: Path) -> None:
    """Give a complete folder its name; where another process came first, its folder stays."""
    try:
        temporary.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(temporary)
