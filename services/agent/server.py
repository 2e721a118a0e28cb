"""The gRPC face of the explainers: check, find the explainer, delegate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import grpc

from saexplain.agent.v1 import agent_pb2 as pb
from saexplain.agent.v1 import agent_pb2_grpc as rpc
from saexplain.common.v1.usage_pb2 import JournalScope
from services.agent.explainers.base import Explainer
from services.agent.explainers.best_of_n import BestOfNExplainer
from services.agent.explainers.imported import ImportExplainer
from services.agent.explainers.lexical.explainer import LexicalExplainer
from services.agent.explainers.one_shot import OneShotExplainer
from services.agent.explainers.paper.explainer import PaperExplainer
from services.agent.explainers.random_probe import RandomProbeExplainer
from services.agent.explainers.registry import ExplainerRegistry
from services.agent.explainers.sage.explainer import SageExplainer
from services.agent.validate import check_step
from services.common.grpc_server import HealthReporter, Register
from services.common.llm.session import LanguageModel

SERVICE = pb.DESCRIPTOR.services_by_name["AgentService"].full_name


class _StepRequest(Protocol):
    @property
    def options(self) -> pb.ExplainerOptions: ...

    @property
    def scope(self) -> JournalScope: ...

    @property
    def evidence(self) -> pb.Evidence: ...


class AgentServicer(rpc.AgentServiceServicer):
    """Answers from a registry of explainers."""

    def __init__(self, registry: ExplainerRegistry) -> None:
        self._registry = registry

    async def ListExplainers(  # noqa: N802 (named by the contract)
        self, request: pb.ListExplainersRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListExplainersResponse:
        """See the contract."""
        return pb.ListExplainersResponse(explainers=self._registry.describe())

    async def ProposeHypotheses(  # noqa: N802
        self, request: pb.ProposeHypothesesRequest, context: grpc.aio.ServicerContext
    ) -> pb.ProposeHypothesesResponse:
        """See the contract."""
        return await self._explainer(request, None).propose(request)

    async def DesignProbes(  # noqa: N802
        self, request: pb.DesignProbesRequest, context: grpc.aio.ServicerContext
    ) -> pb.DesignProbesResponse:
        """See the contract."""
        return await self._explainer(request, request.state).design(request)

    async def ReviseHypotheses(  # noqa: N802
        self, request: pb.ReviseHypothesesRequest, context: grpc.aio.ServicerContext
    ) -> pb.ReviseHypothesesResponse:
        """See the contract."""
        return await self._explainer(request, request.state).revise(request)

    async def Synthesize(  # noqa: N802
        self, request: pb.SynthesizeRequest, context: grpc.aio.ServicerContext
    ) -> pb.SynthesizeResponse:
        """See the contract."""
        return await self._explainer(request, request.state).synthesize(request)

    def _explainer(self, request: _StepRequest, state: pb.RunState | None) -> Explainer:
        explainer = self._registry.find(request.options)
        check_step(
            request.options,
            request.scope,
            request.evidence,
            state,
            uses_llm=explainer.uses_llm,
        )
        return explainer


def explainers(model: LanguageModel | None) -> ExplainerRegistry:
    """All explainers; those that ask a language model are unavailable without one."""
    return ExplainerRegistry(
        [
            BestOfNExplainer(model),
            ImportExplainer(),
            LexicalExplainer(),
            OneShotExplainer(model),
            PaperExplainer(model),
            RandomProbeExplainer(model),
            SageExplainer(model),
        ]
    )


def registering(registry: ExplainerRegistry) -> Register:
    """Adds the servicer to a server. There is nothing to load: it serves at once."""

    async def register(server: grpc.aio.Server, health: HealthReporter) -> None:
        add: Callable[..., None] = rpc.add_AgentServiceServicer_to_server
        add(AgentServicer(registry), server)
        await health.set_serving()

    return register
