"""Reads Dockerfiles: as much of the format as ours use."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "docker"


@dataclass(frozen=True)
class Dockerfile:
    """One Dockerfile's instructions, continued lines joined, comments left out."""

    name: str
    instructions: tuple[tuple[str, str], ...]

    def values(self, keyword: str) -> list[str]:
        """What stands behind a keyword, in order."""
        return [value for word, value in self.instructions if word == keyword]

    @property
    def bases(self) -> list[str]:
        """Images from outside: those that are no earlier stage."""
        stages = {line.split(" AS ")[1] for line in self.values("FROM") if " AS " in line}
        images = [line.split(" AS ")[0] for line in self.values("FROM")]
        return [image for image in images if image not in stages]

    @property
    def command(self) -> list[str]:
        """What the last stage starts."""
        return list(json.loads(self.values("CMD")[-1]))

    @property
    def ports(self) -> set[int]:
        """What the last stage says it listens on."""
        return {int(port) for port in self.values("EXPOSE")[-1].split()}


def read(path: Path) -> Dockerfile:
    """Takes a Dockerfile apart."""
    text = path.read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines()]
    kept = [line.partition(" ") for line in lines if line and not line.startswith("#")]
    return Dockerfile(
        path.name.removesuffix(".Dockerfile"),
        tuple((word, rest.strip()) for word, _, rest in kept),
    )


DOCKERFILES = {file.name: file for file in map(read, sorted(FOLDER.glob("*.Dockerfile")))}
