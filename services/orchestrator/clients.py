"""Channels and stubs of the services that activities call."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from saexplain.activation.v1 import activation_pb2_grpc
from saexplain.agent.v1 import agent_pb2_grpc
from saexplain.scorer.v1 import scorer_pb2_grpc
from services.common.grpc_client import open_channel
from services.orchestrator.settings import OrchestratorSettings


@dataclass(frozen=True)
class Services:
    """Stubs. `indexer` is an activation service that sweeps corpora."""

    activation: activation_pb2_grpc.ActivationServiceAsyncStub
    indexer: activation_pb2_grpc.ActivationServiceAsyncStub
    agent: agent_pb2_grpc.AgentServiceAsyncStub
    scorer: scorer_pb2_grpc.ScorerServiceAsyncStub


@contextlib.asynccontextmanager
async def open_services(settings: OrchestratorSettings) -> AsyncIterator[Services]:
    """Opens a channel to every service; they connect when first used."""
    async with contextlib.AsyncExitStack() as stack:
        activation, indexer, agent, scorer = [
            await stack.enter_async_context(
                open_channel(address, max_message_bytes=settings.max_message_bytes)
            )
            for address in (
                settings.activation_address,
                settings.indexer_address,
                settings.agent_address,
                settings.scorer_address,
            )
        ]
        yield Services(
            activation=activation_pb2_grpc.ActivationServiceStub(activation),  # type: ignore[arg-type]
            indexer=activation_pb2_grpc.ActivationServiceStub(indexer),  # type: ignore[arg-type]
            agent=agent_pb2_grpc.AgentServiceStub(agent),  # type: ignore[arg-type]
            scorer=scorer_pb2_grpc.ScorerServiceStub(scorer),  # type: ignore[arg-type]
        )
