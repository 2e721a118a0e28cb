"""Manifests against the programs that they start.

Guards against what drifts apart in silence: keys that no setting reads, settings that keep a
default for one machine, commands, ports, probes and drain times that are not the program's.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from pydantic import AliasChoices, SecretStr
from pydantic_settings import BaseSettings

from services.activation.registry import load_registry
from services.activation.settings import ActivationSettings
from services.activation.triton.settings import TritonSettings
from services.agent.settings import AgentSettings
from services.common.grpc_server import LIVENESS
from services.common.llm.settings import LlmSettings
from services.orchestrator import policies
from services.orchestrator.__main__ import app
from services.orchestrator.settings import (
    ApiSettings,
    NamespaceSettings,
    StoreSettings,
    WorkerSettings,
)
from services.scorer.settings import ScorerSettings
from tests.deploy.dockerfiles import DOCKERFILES, ROOT
from tests.deploy.rendered import (
    FOLDER,
    OVERLAYS,
    Container,
    all_containers,
    cores_of,
    of_kind,
)

_PROGRAMS: dict[tuple[str, str], tuple[type[BaseSettings], ...]] = {
    ("services.activation", ""): (ActivationSettings,),
    ("services.activation", "indexer"): (ActivationSettings,),
    ("services.activation.prefetch", ""): (ActivationSettings,),
    ("services.activation.triton", ""): (TritonSettings, ActivationSettings),
    ("services.agent", ""): (AgentSettings, LlmSettings),
    ("services.scorer", ""): (ScorerSettings, LlmSettings),
    ("services.orchestrator", "api"): (ApiSettings,),
    ("services.orchestrator", "worker"): (WorkerSettings,),
    ("services.orchestrator", "migrate"): (StoreSettings,),
    ("services.orchestrator", "namespace"): (NamespaceSettings,),
}
"""Every program with the settings that it reads."""
_LIBRARIES = {
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "HF_TOKEN",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
}
"""What libraries of ours read by themselves."""
_PARTIAL = {
    (ActivationSettings, "services.activation.prefetch"),
    (ActivationSettings, "services.activation.triton"),
}
_FRONT_ONLY = {"listen", "index_dir", "triton_address"}
"""What programs that read the activation service's settings in part leave alone."""
_SERVERS = {("services.activation", ""), ("services.activation", "indexer")}


def _ours() -> list[Container]:
    return [each for each in all_containers() if each.ours]


def _settings(each: Container) -> tuple[type[BaseSettings], ...]:
    return _PROGRAMS[each.module, each.role]


def _names(kind: type[BaseSettings]) -> dict[str, str]:
    """Field by the environment variable that sets it."""
    prefix = str(kind.model_config.get("env_prefix", ""))
    names: dict[str, str] = {}
    for field, info in kind.model_fields.items():
        alias = info.validation_alias
        if isinstance(alias, AliasChoices):
            names |= {str(choice): field for choice in alias.choices}
        else:
            names[f"{prefix}{field.upper()}"] = field
    return names


def _read(kind: type[BaseSettings], each: Container, patch: pytest.MonkeyPatch) -> BaseSettings:
    """The settings as the container's process would read them."""
    secrets = dict.fromkeys(each.secrets, "postgresql://in/a-secret")
    for name, value in {**each.environment, **secrets}.items():
        patch.setenv(name, value)
    return kind()


def test_every_program_is_started_somewhere_and_exists() -> None:
    """Commands name modules and roles that there are."""
    started = {(each.module, each.role) for each in _ours()}
    assert started == set(_PROGRAMS)
    roles = {command.callback.__name__ for command in app.registered_commands if command.callback}
    for module, role in started:
        package = importlib.util.find_spec(module)
        assert package
        assert not package.submodule_search_locations or importlib.util.find_spec(
            f"{module}.__main__"
        )
        if module == "services.orchestrator":
            assert role in roles


def test_every_key_is_a_setting_of_its_program() -> None:
    """Guards against a typo in a config map, which no process would ever complain of."""
    for each in _ours():
        known = {name for kind in _settings(each) for name in _names(kind)} | _LIBRARIES
        assert set(each.environment) | each.secrets <= known, each.workload


def test_settings_are_complete_and_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    """The load-bearing test: every program's settings are read from its container's environment;
    nothing keeps an address of this machine or a folder of this user."""
    for each in _ours():
        for kind in _settings(each):
            with monkeypatch.context() as patch:
                settings = _read(kind, each, patch)
            used = {field for name, field in _names(kind).items() if name in each.environment}
            for field, value in settings:
                if each.kind == "Job" and field == "listen":
                    continue
                if (kind, each.module) in _PARTIAL and field in _FRONT_ONLY:
                    continue
                if field == "triton_address" and "triton" not in each.environment.values():
                    continue
                here = isinstance(value, str) and value.startswith("127.0.0.1:")
                home = isinstance(value, Path) and field != "repository"
                assert not (here or home) or field in used, f"{each.workload}: {field}"


def test_a_secret_is_never_asked_for_in_plain() -> None:
    """What a setting holds as a secret comes from one."""
    for each in _ours():
        for kind in _settings(each):
            for name, field in _names(kind).items():
                if SecretStr in _types(kind.model_fields[field].annotation):
                    assert name not in each.environment, name


def _types(annotation: Any) -> set[Any]:
    return {annotation, *getattr(annotation, "__args__", ())}


def test_ports_are_those_of_settings_images_and_architecture() -> None:
    """One port in config map, container, probes, service, image and docs."""
    documented = (ROOT / "docs" / "ARCHITECTURE.md").read_text()
    for each in _ours():
        if each.kind == "Job":
            continue
        listen = next(
            value
            for name, value in each.environment.items()
            if name.endswith("_LISTEN") and "METRICS" not in name
        )
        host, _, port = listen.rpartition(":")
        ports = {entry["name"]: entry["containerPort"] for entry in each.spec["ports"]}
        assert (host, int(port)) == ("0.0.0.0", ports["grpc"]), each.workload
        assert f":{port})" in documented, f"{port} is not in ARCHITECTURE.md's table"
        image = each.spec["image"].rpartition("/")[2].partition(":")[0]
        if image != "triton" or each.module.endswith("triton"):
            assert ports["grpc"] in DOCKERFILES[image].ports
        metrics = [value for name, value in each.environment.items() if "METRICS" in name]
        assert [f"{value}".rpartition(":")[2] for value in metrics] == [
            str(ports[name]) for name in ports if name == "metrics"
        ]
        services = {item["metadata"]["name"]: item for item in of_kind(each.overlay, "Service")}
        exposed = {entry["targetPort"] for entry in services[each.workload]["spec"]["ports"]}
        assert exposed == set(ports)


def test_probes_ask_what_the_programs_answer() -> None:
    """gRPC on the serving port; alive asks for the name that loading leaves alone."""
    for each in _ours():
        if each.kind == "Job":
            continue
        ports = {entry["name"]: entry["containerPort"] for entry in each.spec["ports"]}
        start, ready, alive = (
            each.spec[f"{name}Probe"] for name in ("startup", "readiness", "liveness")
        )
        assert {probe["grpc"]["port"] for probe in (start, ready, alive)} == {ports["grpc"]}
        assert not {"service"} & (set(start["grpc"]) | set(ready["grpc"]))
        if each.module != "services.activation.triton":  # not our server
            assert alive["grpc"].get("service") == LIVENESS
        longest = start["periodSeconds"] * start["failureThreshold"]
        assert longest > ready["periodSeconds"] * ready["failureThreshold"]
        assert alive["periodSeconds"] * alive["failureThreshold"] >= 60


def test_grace_exceeds_what_ending_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """preStop, drain, and what agent and scorer wait for after it: replies already paid for."""
    for each in _ours():
        if each.kind == "Job":
            continue
        pause = each.spec["lifecycle"]["preStop"]["sleep"]["seconds"]
        with monkeypatch.context() as patch:
            settings = _read(_settings(each)[0], each, patch)
        drain = float(getattr(settings, "drain_seconds", 12))  # Triton's supervisor: 12 s
        after = {"services.agent": drain, "services.scorer": 40.0}.get(each.module, 0.0)
        assert each.pod["terminationGracePeriodSeconds"] >= pause + drain + after + 5, each.workload


def test_servers_renew_connections_and_fit_their_cores() -> None:
    """New pods are found by old clients; torch starts no more threads than it has cores."""
    for each in _ours():
        if f"{each.module} {each.role}".strip() in {
            "services.activation", "services.activation indexer", "services.agent",
            "services.scorer", "services.orchestrator api",
        }:  # fmt: skip
            assert 60 <= float(each.environment["SAEXPLAIN_MAX_CONNECTION_AGE_SECONDS"]) <= 900
        if (each.module, each.role) in _SERVERS:
            threads = int(each.environment["SAEXPLAIN_ACTIVATION_TORCH_THREADS"])
            assert threads == cores_of(each.spec["resources"]["limits"]["cpu"])


def test_addresses_name_services_and_resolve_to_all_their_pods() -> None:
    """A gRPC address of ours is dns:/// and a headless service's port."""
    for each in _ours():
        services = {item["metadata"]["name"]: item for item in of_kind(each.overlay, "Service")}
        for name, value in each.environment.items():
            if not name.endswith("_ADDRESS") or ".example.com:" in value:
                continue
            host, _, port = value.removeprefix("dns:///").rpartition(":")
            assert int(port) in {entry["port"] for entry in services[host]["spec"]["ports"]}, value
            if name != "SAEXPLAIN_TEMPORAL_ADDRESS" and name != "SAEXPLAIN_TRITON_ADDRESS":
                assert value.startswith("dns:///")


def test_front_and_triton_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits, device and registry have to be the same in both (TritonSettings)."""
    for overlay in ("gpu", "production"):
        found = {each.module: each for each in _ours() if each.overlay == overlay and not each.role}
        pair = []
        for module in ("services.activation", "services.activation.triton"):
            with monkeypatch.context() as patch:
                pair.append(_read(ActivationSettings, found[module], patch))
        front, triton = pair
        for name in ("encoder_limits", "device", "registry", "cache_dir"):
            assert getattr(front, name) == getattr(triton, name), name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_environment_has_a_temporal_namespace_of_its_own(overlay: str) -> None:
    """API, worker and the job that registers it agree, and no other environment has it."""
    name = "SAEXPLAIN_TEMPORAL_NAMESPACE"
    of = {
        each: {
            it.environment[name] for it in _ours() if it.overlay == each and name in it.environment
        }
        for each in OVERLAYS
    }
    assert len(of[overlay]) == 1
    assert all(of[overlay] != of[other] for other in OVERLAYS if other != overlay)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_registries_are_registries(overlay: str) -> None:
    """What the config map holds can be read; folders of the demo are where the image has them."""
    registry = load_registry(FOLDER / "overlays" / overlay / "registry.yaml")
    copied = {
        copy.split()[1]
        for copy in DOCKERFILES["activation-engine"].values("COPY")
        if copy.startswith("demo/")
    }
    for entry in registry.saes.values():
        for path in (entry.folder, entry.index, entry.annotations):
            if path is not None:
                assert any(Path(path).is_relative_to(folder) for folder in copied), path


def test_scaling_reads_metrics_and_queues_that_exist() -> None:
    """Guards against an autoscaler that sleeps: its metric must be exported, its queue polled, and
    the bounds of a process be what one target asks for."""
    metrics = (ROOT / "docs" / "METRICS.md").read_text()
    for item in of_kind("production", "HorizontalPodAutoscaler"):
        for metric in item["spec"]["metrics"]:
            assert f"`{metric['pods']['metric']['name']}`" in metrics
    limits = WorkerSettings.model_fields
    scaled = {item["metadata"]["name"]: item for item in of_kind("production", "ScaledObject")}
    triggers = [each["metadata"] for each in scaled["saexplain-worker"]["spec"]["triggers"]]
    assert {trigger["taskQueue"] for trigger in triggers} == set(policies.QUEUES)
    worker = next(it for it in _ours() if it.overlay == "production" and it.role == "worker")
    for trigger in triggers:
        assert trigger["endpointFromEnv"] in worker.environment
        assert trigger["namespace"] == worker.environment["SAEXPLAIN_TEMPORAL_NAMESPACE"]
        field = trigger["taskQueue"].removeprefix("saexplain-") + "_activities"
        assert int(trigger["targetQueueSize"]) == limits[field].default
    deployments = {item["metadata"]["name"]: item for item in of_kind("production", "Deployment")}
    targets = [
        item["spec"]["scaleTargetRef"]["name"]
        for item in of_kind("production", "HorizontalPodAutoscaler", "ScaledObject")
    ]
    assert len(set(targets)) == len(targets) == 4
    for target in targets:
        assert "replicas" not in deployments[target]["spec"], target
