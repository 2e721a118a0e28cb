"""Judge items: what a judge may see of a window or a text, which is never an activation."""

from __future__ import annotations

from collections.abc import Sequence

from saexplain.common.v1.text_pb2 import TokenSpan
from saexplain.common.v1.window_pb2 import Window
from saexplain.scorer.v1.scorer_pb2 import (
    JUDGE_TASK_CLASSIFY,
    JUDGE_TASK_CLASSIFY_HIGHLIGHTS,
    JUDGE_TASK_EMBED,
    JUDGE_TASK_PREDICT,
    JUDGE_TASK_RATE,
    JUDGE_TASK_SIMULATE,
    JUDGE_TASK_VERIFY,
    JudgeItem,
    JudgePassage,
    JudgeTask,
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


def simulate_item(window: Window) -> JudgeItem:
    """Asks for the expected activation at every token of a window."""
    item = predict_item(window)
    item.task = JUDGE_TASK_SIMULATE
    return item


def classify_item(window: Window) -> JudgeItem:
    """Asks whether the feature activates in a window."""
    item = predict_item(window)
    item.task = JUDGE_TASK_CLASSIFY
    return item


def rate_item(window: Window) -> JudgeItem:
    """Asks how clearly a window expresses what is explained."""
    item = predict_item(window)
    item.task = JUDGE_TASK_RATE
    return item


def highlight_item(item_id: str, window: Window, places: Sequence[int]) -> JudgeItem:
    """Asks whether the highlighted tokens are those at which the feature activates."""
    item = predict_item(window)
    item.id, item.task = item_id, JUDGE_TASK_CLASSIFY_HIGHLIGHTS
    item.highlights.extend(places)
    return item


def group_item(
    item_id: str,
    task: JudgeTask.ValueType,
    windows: Sequence[Window],
    highlights: Sequence[Sequence[int]] | None = None,
) -> JudgeItem:
    """Asks about windows that are judged together, in their order."""
    places = highlights or [()] * len(windows)
    return JudgeItem(
        id=item_id,
        task=task,
        passages=[
            JudgePassage(
                left_context=blind(w.left_context),
                tokens=blind(w.tokens),
                context_position=w.context_position,
                highlights=p,
            )
            for w, p in zip(windows, places, strict=True)
        ],
    )


def embed_item(item_id: str, text: str) -> JudgeItem:
    """Asks for the vector of a text."""
    return JudgeItem(id=item_id, task=JUDGE_TASK_EMBED, text=text)


def verify_item(text: WrittenText) -> JudgeItem:
    """Asks whether the explanation covers a text, without saying what it was written for."""
    return JudgeItem(id=text.id, task=JUDGE_TASK_VERIFY, text=text.text)


def blind(tokens: TokenSpan) -> TokenSpan:
    """The tokens without offsets, which nobody needs to judge them."""
    return TokenSpan(token_ids=tokens.token_ids, token_bytes=tokens.token_bytes)
