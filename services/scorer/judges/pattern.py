"""The deterministic judge: an explanation's pattern, evaluated. Free, and the same for ever."""

from __future__ import annotations

from saexplain.common.v1.usage_pb2 import LlmUsage
from saexplain.scorer.v1.scorer_pb2 import (
    JUDGE_TASK_PREDICT,
    PREDICTION_STATUS_OK,
    JudgeRequest,
    Prediction,
)
from services.common.errors import InvalidArgument
from services.common.pattern import compile_pattern


class PatternJudge:
    """Predicts windows by `Explanation.pattern`.

    It verifies no texts: a pattern reads tokens, and how a text is cut into tokens is known
    only after it was encoded. Methods that write texts verify them from the encoded tokens
    when they score.
    """

    async def judge(self, request: JudgeRequest) -> tuple[list[Prediction], LlmUsage]:
        """One prediction per item; none ever fails.

        Raises:
            InvalidArgument: an item that is not PREDICT, or an invalid pattern.
        """
        pattern = compile_pattern(request.explanation.pattern)
        predictions = []
        for index, item in enumerate(request.items):
            if item.task != JUDGE_TASK_PREDICT:
                raise InvalidArgument(
                    "the judge `pattern` only takes PREDICT items", f"items[{index}].task"
                )
            position = item.context_position if item.HasField("context_position") else None
            shares = pattern.predict(item.tokens, item.left_context, position)
            predictions.append(
                Prediction(item_id=item.id, status=PREDICTION_STATUS_OK, shares=shares.tolist())
            )
        return predictions, LlmUsage()
