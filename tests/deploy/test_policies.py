"""Every overlay against the API's schemas and against our own rules.

Guards against manifests that a cluster refuses, containers that may do more than they need, and
names that point at nothing. What a cluster does with what it accepts is unproven here.
"""

from __future__ import annotations

import copy
import functools
import re
from typing import Any

import jsonschema
import pytest
from kubernetes_validate import utils
from referencing import Registry, Resource

from tests.deploy.rendered import (
    OVERLAYS,
    Container,
    all_containers,
    bytes_of,
    cores_of,
    everywhere,
    of_kind,
    render,
)

_SCHEMAS = "kubernetes-json-schema/v1.34.0-local-strict"
"""Strict: unknown fields are errors too."""
_OTHERS_KINDS = {"ScaledObject"}
"""Kinds of KEDA, of which no schema is at hand: `test_scaling` reads them."""
_EXACT_TAG = re.compile(r"^[a-z0-9./-]+:\d+\.\d+(\.\d+)?[a-z0-9.-]*$")


@functools.cache
def _definitions() -> Registry[Any]:
    contents = utils.schema_contents(f"{_SCHEMAS}/_definitions.json", "1.34")
    return (Resource.from_contents(contents) @ Registry()).crawl()


@functools.cache
def _validator(api_version: str, kind: str) -> jsonschema.Draft202012Validator:
    """kubernetes-validate reads and walks all definitions for every object; this does so once."""
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    schema = utils.schema_contents(f"{_SCHEMAS}/{kind.lower()}-{group}.json", "1.34")
    registry = (Resource.from_contents(schema) @ _definitions()).crawl()
    return jsonschema.Draft202012Validator(schema, registry=registry)


def _validate(item: dict[str, Any]) -> None:
    _validator(item["apiVersion"], item["kind"]).validate(item)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_is_of_the_api(overlay: str) -> None:
    """Of Kubernetes 1.34, without a field that it does not know."""
    for item in render(overlay):
        if item["kind"] not in _OTHERS_KINDS:
            _validate(item)


def test_a_wrong_field_is_found() -> None:
    """Negative control of the validation, at the top and deep inside."""
    (namespace,) = of_kind("local", "Namespace")
    with pytest.raises(jsonschema.ValidationError):
        _validate({**namespace, "spek": {}})
    deployment = copy.deepcopy(of_kind("local", "Deployment")[0])
    deployment["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["grpc"]["port"] = "x"
    with pytest.raises(jsonschema.ValidationError):
        _validate(deployment)


def test_every_container_keeps_to_pod_security_restricted() -> None:
    """Non-root, nothing writable but volumes, no capabilities, seccomp, no token."""
    for each in all_containers():
        where = f"{each.overlay}: {each.workload}"
        pod, own = each.pod["securityContext"], each.spec["securityContext"]
        assert pod["runAsNonRoot"] is True, where
        assert pod["runAsUser"] > 0, where
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}, where
        assert own["allowPrivilegeEscalation"] is False, where
        assert own["readOnlyRootFilesystem"] is True, where
        assert own["capabilities"] == {"drop": ["ALL"]}, where
        assert each.pod["automountServiceAccountToken"] is False, where
        assert each.pod["serviceAccountName"] != "default", where
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(each.pod), where
        assert all("hostPath" not in volume for volume in each.pod["volumes"]), where


def test_every_container_says_what_it_takes() -> None:
    """Requests and limits of CPU and memory, requests within limits."""
    for each in all_containers():
        asked, most = each.spec["resources"]["requests"], each.spec["resources"]["limits"]
        assert 0 < cores_of(asked["cpu"]) <= cores_of(most["cpu"]), each.workload
        assert 0 < bytes_of(asked["memory"]) <= bytes_of(most["memory"]), each.workload


def test_memory_volumes_fit_into_their_containers_limit() -> None:
    """Guards against a pod killed for its /dev/shm, which counts as its memory."""
    found = 0
    for each in all_containers():
        for volume in each.pod["volumes"]:
            empty = volume.get("emptyDir") or {}
            if empty.get("medium") == "Memory":
                found += 1
                limit = bytes_of(each.spec["resources"]["limits"]["memory"])
                assert bytes_of(empty["sizeLimit"]) <= limit / 4
    assert found, "Triton has lost its /dev/shm"


def test_every_image_names_a_release() -> None:
    """No latest, no floating tag."""
    for each in all_containers():
        assert _EXACT_TAG.match(each.spec["image"]), each.spec["image"]


def test_everything_that_stays_up_has_three_probes() -> None:
    """Jobs end by themselves; everything else is started, ready and alive by three answers."""
    for each in all_containers():
        names = {"startupProbe", "readinessProbe", "livenessProbe"} & set(each.spec)
        assert len(names) == (0 if each.kind == "Job" else 3), each.workload


def test_volumes_and_their_mounts_match() -> None:
    """Guards against a mount of nothing, and a volume nobody mounts."""
    for each in all_containers():
        volumes = {volume["name"] for volume in each.pod["volumes"]}
        if each.kind == "StatefulSet":
            volumes.add("data")
        assert {mount["name"] for mount in each.spec["volumeMounts"]} == volumes, each.workload
        assert "/tmp" in {mount["mountPath"] for mount in each.spec["volumeMounts"]}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_reference_points_at_something(overlay: str) -> None:
    """Config maps, claims, accounts, priority classes and the names of services."""
    known: dict[str, set[str]] = {}
    for item in render(overlay):
        known.setdefault(item["kind"], set()).add(item["metadata"]["name"])
    for each in [each for each in all_containers() if each.overlay == overlay]:
        assert each.pod["serviceAccountName"] in known["ServiceAccount"]
        assert each.pod["priorityClassName"] in known["PriorityClass"]
        for volume in each.pod["volumes"]:
            if "persistentVolumeClaim" in volume:
                assert (
                    volume["persistentVolumeClaim"]["claimName"] in known["PersistentVolumeClaim"]
                )
            if "configMap" in volume:
                assert volume["configMap"]["name"] in known["ConfigMap"]
    for item in of_kind(overlay, "PersistentVolumeClaim", "Service", "PodDisruptionBudget"):
        assert item["metadata"]["name"] in _used(overlay), item["metadata"]["name"]


def _used(overlay: str) -> set[str]:
    claims = {
        volume["persistentVolumeClaim"]["claimName"]
        for each in all_containers()
        if each.overlay == overlay
        for volume in each.pod["volumes"]
        if "persistentVolumeClaim" in volume
    }
    return claims | {each.workload for each in all_containers() if each.overlay == overlay}


def test_no_overlay_holds_a_secret() -> None:
    """Secrets by reference only: no Secret, and nothing that looks like one in a config map."""
    for overlay, item in everywhere():
        assert item["kind"] != "Secret", overlay
        if item["kind"] == "ConfigMap":
            for key in item["data"]:
                assert not re.search(r"KEY|TOKEN$|PASSWORD|SECRET|DATABASE_URL", key), key


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_namespace_is_restricted_and_holds_everything(overlay: str) -> None:
    """Guards against an object that lands in the namespace `default`."""
    (namespace,) = of_kind(overlay, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for item in render(overlay):
        if item["kind"] not in {"Namespace", "PriorityClass"}:
            assert item["metadata"]["namespace"] == namespace["metadata"]["name"]


def test_deployments_have_a_headless_service_and_a_disruption_budget() -> None:
    """Client-side balancing needs every pod's address; a drain takes one pod at a time."""
    for overlay in OVERLAYS:
        services = {item["metadata"]["name"]: item for item in of_kind(overlay, "Service")}
        budgets = {
            item["metadata"]["name"]: item for item in of_kind(overlay, "PodDisruptionBudget")
        }
        for item in of_kind(overlay, "Deployment"):
            name, labels = item["metadata"]["name"], item["spec"]["template"]["metadata"]["labels"]
            assert services[name]["spec"]["clusterIP"] == "None"
            for selector in (
                services[name]["spec"]["selector"],
                budgets[name]["spec"]["selector"]["matchLabels"],
                item["spec"]["selector"]["matchLabels"],
            ):
                assert selector.items() <= labels.items(), name


def test_what_holds_a_gpu_is_replaced_without_a_second_one() -> None:
    """Guards against a rollout that waits forever for a GPU that the old pod holds."""
    holders = 0
    for overlay in ("gpu", "production"):
        for item in of_kind(overlay, "Deployment"):
            pod = item["spec"]["template"]["spec"]
            if "nvidia.com/gpu" in pod["containers"][0]["resources"]["limits"]:
                holders += 1
                assert item["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0
                assert pod["nodeSelector"]
                assert any(each["key"] == "nvidia.com/gpu" for each in pod["tolerations"])
    assert holders == 4


def _reaches(peer: dict[str, Any], labels: dict[str, str]) -> bool:
    chosen = peer.get("podSelector")
    return chosen is not None and chosen.get("matchLabels", {}).items() <= labels.items()


def _allowed(
    policies: list[dict[str, Any]], one: Container, way: str, other: Container, port: int
) -> bool:
    """Whether policies of `one` let traffic to or from `other` pass."""
    peers = {"egress": "to", "ingress": "from"}[way]
    return any(
        any(_reaches(peer, other.labels) for peer in rule.get(peers, []))
        and any(each["port"] == port for each in rule["ports"])
        for policy in policies
        if _reaches(policy["spec"], one.labels)
        for rule in policy["spec"].get(way, [])
    )


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_policies_let_every_configured_call_pass_and_no_other(overlay: str) -> None:
    """Every address of a config map that lies in the namespace is reachable from there; a service
    that has no such address cannot reach it."""
    policies = of_kind(overlay, "NetworkPolicy")
    assert any(
        policy["spec"]["podSelector"] == {} and "egress" not in policy["spec"]
        for policy in policies
    )
    pods = {each.workload: each for each in all_containers() if each.overlay == overlay}
    checked = 0
    for each in pods.values():
        for target in pods.values():
            for port in (port["containerPort"] for port in target.spec.get("ports", [])):
                wanted = any(
                    value.removeprefix("dns:///") == f"{target.workload}:{port}"
                    for value in each.environment.values()
                )
                if target.workload == "saexplain-postgres":
                    wanted = "SAEXPLAIN_DATABASE_URL" in each.secrets
                passes = _allowed(policies, each, "egress", target, port)
                assert passes == wanted, f"{each.workload} to {target.workload}:{port}"
                if wanted:
                    checked += 1
                    assert _allowed(policies, target, "ingress", each, port), target.workload
    assert checked >= 8
