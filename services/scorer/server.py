"""The gRPC face of the scorer: validates, delegates, converts back. No science in here."""

from __future__ import annotations

import asyncio

import grpc

from saexplain.scorer.v1 import scorer_pb2, scorer_pb2_grpc
from services.common.grpc_server import HealthReporter, Register
from services.common.llm.embeddings import EmbeddingModel
from services.common.llm.session import LanguageModel, require_language_model
from services.scorer import validation
from services.scorer.judges.embedding import EmbeddingJudge, require_embedding_model
from services.scorer.judges.llm import LlmJudge
from services.scorer.judges.llm_writer import LlmWriter
from services.scorer.judges.pattern import PatternJudge
from services.scorer.judges.pattern_writer import PatternWriter
from services.scorer.methods import base, registry
from services.scorer.methods.base import LLM_JUDGE, unscorable
from services.scorer.settings import ScorerSettings

SERVICE = scorer_pb2.DESCRIPTOR.services_by_name["ScorerService"].full_name


class ScorerServicer(scorer_pb2_grpc.ScorerServiceServicer):
    """Serves the methods of the registry.

    Args:
        settings: limits.
        model: the language model; None where none is configured, which only calls that
            need one are refused for.
        embeddings: the embedding model, likewise.
    """

    def __init__(
        self,
        settings: ScorerSettings,
        model: LanguageModel | None,
        embeddings: EmbeddingModel | None = None,
    ) -> None:
        self._settings = settings
        self._model = model
        self._embeddings = embeddings

    async def ListMethods(  # noqa: N802 (named by the contract)
        self, request: scorer_pb2.ListMethodsRequest, context: grpc.aio.ServicerContext
    ) -> scorer_pb2.ListMethodsResponse:
        """All known methods, ordered by name."""
        offered = registry.declarations(embeds=self._embeddings is not None)
        return scorer_pb2.ListMethodsResponse(methods=offered)

    async def PlanScore(  # noqa: N802
        self, request: scorer_pb2.PlanScoreRequest, context: grpc.aio.ServicerContext
    ) -> scorer_pb2.PlanScoreResponse:
        """What to measure and to judge."""
        method = registry.find(request.options)
        validation.check_plan(request, method, self._settings.max_windows)
        if request.options.method in registry.EMBEDDING_METHODS:
            require_embedding_model(self._embeddings)
        if unscorable(request):
            return scorer_pb2.PlanScoreResponse()
        return await method.plan(request, self._writer(request.options.judge))

    async def Judge(  # noqa: N802
        self, request: scorer_pb2.JudgeRequest, context: grpc.aio.ServicerContext
    ) -> scorer_pb2.JudgeResponse:
        """Predictions, item by item."""
        method = registry.find(request.options)
        validation.check_judge(request, method, self._settings.max_judge_items)
        predictions, usage = await self._judge(request).judge(request)
        return scorer_pb2.JudgeResponse(predictions=predictions, usage=usage)

    async def Score(  # noqa: N802
        self, request: scorer_pb2.ScoreRequest, context: grpc.aio.ServicerContext
    ) -> scorer_pb2.ScoreResponse:
        """The scores of one method."""
        method = registry.find(request.options)
        validation.check_score(request, method, self._settings.max_windows)
        # Resampling takes a good part of a second: health checks must not wait for it.
        result = await asyncio.to_thread(method.score, request)
        return scorer_pb2.ScoreResponse(result=result)

    def _judge(self, request: scorer_pb2.JudgeRequest) -> base.Judge:
        if any(item.task == scorer_pb2.JUDGE_TASK_EMBED for item in request.items):
            return EmbeddingJudge(require_embedding_model(self._embeddings))
        if request.options.judge == LLM_JUDGE:
            return LlmJudge(require_language_model(self._model))
        return PatternJudge()

    def _writer(self, name: str) -> base.Writer:
        if name == LLM_JUDGE:
            return LlmWriter(require_language_model(self._model))
        return PatternWriter()


def registering(
    settings: ScorerSettings,
    model: LanguageModel | None,
    embeddings: EmbeddingModel | None = None,
) -> Register:
    """Adds the servicer to a server; it is ready at once."""

    async def register(server: grpc.aio.Server, health: HealthReporter) -> None:
        servicer = ScorerServicer(settings, model, embeddings)
        scorer_pb2_grpc.add_ScorerServiceServicer_to_server(servicer, server)
        await health.set_serving()

    return register
