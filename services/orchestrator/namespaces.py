"""Temporal's namespace: one per environment, so that no worker of one takes work of another.

The workflows set no search attributes, so a retention is all that a namespace needs.
"""

from __future__ import annotations

import structlog
from google.protobuf.duration_pb2 import Duration
from temporalio.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    RegisterNamespaceRequest,
    UpdateNamespaceRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from services.common.errors import Unavailable
from services.orchestrator.settings import NamespaceSettings
from services.orchestrator.temporal_client import connect

_log = structlog.get_logger(__name__)
_DAY_SECONDS = 24 * 3600


async def ensure_namespace(settings: NamespaceSettings) -> None:
    """Registers the namespace with its retention, or gives one that exists this retention.

    Safe to repeat and to run twice at once.

    Raises:
        Unavailable: Temporal does not answer in time, or refuses.
    """
    client = await connect(
        settings.temporal_address, settings.temporal_namespace, settings.connect_seconds
    )
    retention = Duration(seconds=settings.temporal_retention_days * _DAY_SECONDS)
    try:
        if await _registered(client, settings.temporal_namespace, retention):
            _log.info("namespace_registered", namespace=settings.temporal_namespace)
        else:
            await _retain(client, settings.temporal_namespace, retention)
    except RPCError as error:
        raise Unavailable(
            f"Temporal refuses namespace {settings.temporal_namespace}: {error.status.name}"
        ) from error


async def _registered(client: Client, namespace: str, retention: Duration) -> bool:
    """Whether it was registered by this call; False where it existed."""
    request = RegisterNamespaceRequest(
        namespace=namespace,
        description="saexplain",
        workflow_execution_retention_period=retention,
    )
    try:
        await client.workflow_service.register_namespace(request)
    except RPCError as error:
        if error.status is RPCStatusCode.ALREADY_EXISTS:
            return False
        raise
    return True


async def _retain(client: Client, namespace: str, retention: Duration) -> None:
    described = await client.workflow_service.describe_namespace(
        DescribeNamespaceRequest(namespace=namespace)
    )
    config = described.config
    if config.workflow_execution_retention_ttl == retention:
        _log.info("namespace_unchanged", namespace=namespace)
        return
    config.workflow_execution_retention_ttl.CopyFrom(retention)
    await client.workflow_service.update_namespace(
        UpdateNamespaceRequest(namespace=namespace, config=config)
    )
    _log.info("namespace_changed", namespace=namespace)
