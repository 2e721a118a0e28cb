"""Guards against an installation that writes into another one's namespace, and against a job that
fails when it is run again."""

from __future__ import annotations

import uuid

import pytest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest

from services.common.errors import Unavailable
from services.orchestrator.namespaces import ensure_namespace
from services.orchestrator.settings import NamespaceSettings
from services.orchestrator.temporal_client import connect


async def _retention_days(address: str, namespace: str) -> float:
    client = await connect(address, namespace, 10)
    described = await client.workflow_service.describe_namespace(
        DescribeNamespaceRequest(namespace=namespace)
    )
    return described.config.workflow_execution_retention_ttl.seconds / 86_400


async def test_a_namespace_is_registered_once_and_follows_its_retention(
    temporal_address: str,
) -> None:
    """First run registers, the second finds it, a third with another retention changes it."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    for days in (7, 7, 9):
        await ensure_namespace(
            NamespaceSettings(
                temporal_address=temporal_address,
                temporal_namespace=name,
                temporal_retention_days=days,
            )
        )
        assert await _retention_days(temporal_address, name) == days


async def test_no_server_is_said() -> None:
    """Guards against a job that ends well without a namespace."""
    nowhere = NamespaceSettings(temporal_address="127.0.0.1:1", connect_seconds=0)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
        await ensure_namespace(nowhere)
