"""Puts the generated stubs, which live beside the .proto files, into the wheel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class StubsHook(BuildHookInterface):
    """Includes every `*.py`, `*.pyi` and `py.typed` of `protos/saexplain`."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds the files to `build_data`.

        Raises:
            FileNotFoundError: built outside of the repository, where there are no stubs.
        """
        protos = Path(self.root).parent.parent / "protos"
        files = sorted(
            path
            for path in (protos / "saexplain").rglob("*")
            if path.suffix in {".py", ".pyi"} or path.name == "py.typed"
        )
        if not files:
            raise FileNotFoundError(f"no generated stubs under {protos}; run `make protos`")
        for path in files:
            build_data["force_include"][str(path)] = str(path.relative_to(protos))
