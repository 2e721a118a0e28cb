"""Overlays as kustomize renders them, and what tests ask of them."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from tests.deploy.dockerfiles import ROOT

OVERLAYS = ("local", "gpu", "production")
FOLDER = ROOT / "deploy" / "k8s"
_WORKLOADS = ("Deployment", "StatefulSet", "Job")


@dataclass(frozen=True)
class Container:
    """One container with the pod that it runs in."""

    overlay: str
    kind: str
    workload: str
    pod: dict[str, Any]
    """The pod's `spec`."""
    labels: dict[str, str]
    """The pod's labels."""
    spec: dict[str, Any]
    environment: dict[str, str]
    """Plain values: config maps, then the container's own. Secrets are in `secrets`."""
    secrets: frozenset[str]
    """Variables that come from secrets."""

    @property
    def ours(self) -> bool:
        """Whether it runs a program of this project."""
        return self.spec.get("command", [""])[0] == "python"

    @property
    def module(self) -> str:
        """The module that it runs."""
        return str(self.spec["command"][2])

    @property
    def role(self) -> str:
        """The argument that says which role, if any."""
        arguments = self.spec["command"][3:]
        return str(arguments[-1]) if arguments else ""


@functools.cache
def render(overlay: str) -> tuple[dict[str, Any], ...]:
    """All objects of an overlay; skips, announced, where nothing can render them."""
    for program in (["kubectl", "kustomize"], ["kustomize", "build"]):
        if shutil.which(program[0]):
            break
    else:
        pytest.skip("neither kubectl nor kustomize is installed: overlays are not rendered")
    command = [*program, str(FOLDER / "overlays" / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.load_all(done.stdout, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def of_kind(overlay: str, *kinds: str) -> list[dict[str, Any]]:
    """Objects of these kinds."""
    return [item for item in render(overlay) if item["kind"] in kinds]


def containers(overlay: str) -> Iterator[Container]:
    """Every container of every workload, init containers included."""
    maps = {item["metadata"]["name"]: item["data"] for item in of_kind(overlay, "ConfigMap")}
    for item in of_kind(overlay, *_WORKLOADS):
        template = item["spec"]["template"]
        pod = template["spec"]
        for spec in [*pod.get("initContainers", []), *pod["containers"]]:
            plain: dict[str, str] = {}
            for source in spec.get("envFrom", []):
                plain |= maps[source["configMapRef"]["name"]]
            own = spec.get("env", [])
            plain |= {each["name"]: each["value"] for each in own if "value" in each}
            yield Container(
                overlay,
                item["kind"],
                item["metadata"]["name"],
                pod,
                template["metadata"]["labels"],
                spec,
                plain,
                frozenset(each["name"] for each in own if "valueFrom" in each),
            )


def everywhere() -> list[tuple[str, dict[str, Any]]]:
    """Every object of every overlay, with the overlay's name."""
    return [(overlay, item) for overlay in OVERLAYS for item in render(overlay)]


def all_containers() -> list[Container]:
    """Every container of every overlay."""
    return [each for overlay in OVERLAYS for each in containers(overlay)]


def bytes_of(quantity: str) -> float:
    """A quantity of memory in bytes."""
    units = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
    return float(quantity[:-2]) * units[quantity[-2:]]


def cores_of(quantity: str) -> float:
    """A quantity of CPU in cores."""
    text = str(quantity)
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)
