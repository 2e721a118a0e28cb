"""Judge items: what a judge may see of a window or a text, which is never an activation."""

from __future__ import annotations

from saexplain.common.v1.text_pb2 import TokenSpan
from saexplain.common.v1.window_pb2 import Window
from saexplain.scorer.v1.scorer_pb2 import (
    JUDGE_TASK_PREDICT,
    JUDGE_TASK_VERIFY,
    JudgeItem,
    WrittenText,
)


def predict_item(window: Window) -> JudgeItem:
    """Asks for the activation at every token of a window."""
    return JudgeItem(
        id=window.name,
        task=JUDGE_TASK_PREDICT,
        left_context=blind(window.left_context),
        tokens=blind(window.tokens),
        context_position=window.context_position,
    )


def verify_item(text: WrittenText) -> JudgeItem:
    """Asks whether the explanation covers a text, without saying what it was written for."""
    return JudgeItem(id=text.id, task=JUDGE_TASK_VERIFY, text=text.text)


def blind(tokens: TokenSpan) -> TokenSpan:
    """The tokens without offsets, which nobody needs to judge them."""
    return TokenSpan(token_ids=tokens.token_ids, token_bytes=tokens.token_bytes)
