"""What modules of ours import when they are imported, and what an extra brings: read, not run."""

from __future__ import annotations

import ast
import functools
import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from tests.deploy.dockerfiles import ROOT

_ROOTS = {"services": ROOT, "saexplain": ROOT / "protos"}


def outside_imports(modules: Sequence[str]) -> dict[str, str]:
    """Top-level packages from outside that importing the modules needs, each with one of our
    modules that imports it. Imports inside functions are not followed."""
    found: dict[str, str] = {}
    seen: set[str] = set()
    open_ends = list(modules)
    while open_ends:
        module = open_ends.pop()
        path = _path(module)
        if module in seen or path is None:
            continue
        seen.add(module)
        parent = module.rpartition(".")[0]
        if parent:
            open_ends.append(parent)
        for name in _imported(path):
            top = name.partition(".")[0]
            if top in _ROOTS:
                open_ends.append(name)
            elif top not in sys.stdlib_module_names:
                found.setdefault(name, module)
    return found


def distributions_of(extra: str) -> set[str]:
    """Everything that ``pip install saexplain[extra]`` brings, by canonical name."""
    found: set[tuple[str, str]] = set()
    open_ends = [("saexplain", ""), ("saexplain", extra)]
    while open_ends:
        name, of = open_ends.pop()
        if (name, of) in found:
            continue
        found.add((name, of))
        for requirement in map(Requirement, _requirements(name)):
            if requirement.marker and not requirement.marker.evaluate({"extra": of}):
                continue
            for more in ("", *requirement.extras):
                open_ends.append((canonical(requirement.name), more))
    return {name for name, _ in found}


def _requirements(name: str) -> list[str]:
    if name == "saexplain":  # its installed metadata may be older than the file
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        extras = project["optional-dependencies"].items()
        optional = [f'{line} ; extra == "{extra}"' for extra, lines in extras for line in lines]
        return [*project["dependencies"], *optional]
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []  # a dependency of another platform


def canonical(name: str) -> str:
    """A distribution's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _path(module: str) -> Path | None:
    top = module.partition(".")[0]
    base = _ROOTS[top].joinpath(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


@functools.cache
def _imported(path: Path) -> tuple[str, ...]:
    names: list[str] = []
    for node in _statements(ast.parse(path.read_text()).body):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(names)


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from _statements(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for part in ("body", "orelse", "finalbody"):
                yield from _statements(getattr(node, part, []))
