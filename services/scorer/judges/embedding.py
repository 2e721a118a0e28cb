"""The embedding model as judge: a vector per text. Similarity is ours to compute."""

from __future__ import annotations

from saexplain.common.v1.usage_pb2 import LlmUsage
from saexplain.scorer.v1.scorer_pb2 import (
    JUDGE_TASK_EMBED,
    PREDICTION_STATUS_OK,
    JudgeRequest,
    Prediction,
)
from services.common.errors import FailedPrecondition, InvalidArgument
from services.common.llm.embeddings import EmbeddingModel
from services.scorer.methods.registry import NOT_CONFIGURED


class EmbeddingJudge:
    """Answers EMBED items, all of a call in one request."""

    def __init__(self, model: EmbeddingModel) -> None:
        self._model = model

    async def judge(self, request: JudgeRequest) -> tuple[list[Prediction], LlmUsage]:
        """One vector per item.

        Raises:
            InvalidArgument: an item of another task: embeddings are asked for apart.
            SaexplainError: the provider cannot be asked, or its reply cannot be used (see
                `EmbeddingModel.embed`).
        """
        for index, item in enumerate(request.items):
            if item.task != JUDGE_TASK_EMBED:
                raise InvalidArgument(
                    "EMBED items stand in calls of their own", f"items[{index}].task"
                )
        vectors, usage = await self._model.embed(request.scope, [i.text for i in request.items])
        return [
            Prediction(
                item_id=item.id,
                status=PREDICTION_STATUS_OK,
                embedding=vector.tolist(),
                model=self._model.model,
            )
            for item, vector in zip(request.items, vectors, strict=True)
        ], usage


def require_embedding_model(model: EmbeddingModel | None) -> EmbeddingModel:
    """The model, or FailedPrecondition LLM_NOT_CONFIGURED."""
    if model is None:
        raise FailedPrecondition(NOT_CONFIGURED, "LLM_NOT_CONFIGURED")
    return model
